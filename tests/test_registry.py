"""Parts of a scene take values of their kind and range, and refuse all others in a sentence."""

import functools
import json
from collections.abc import Iterator

import jax
import ml_collections
import pytest

from dreamfusion_jax import registry
from dreamfusion_jax.config import load_config
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.train.checkpoint import FOLDER, restore_run

# No key of a scene takes any of these: of the wrong kind, or out of every range.
WRONG = [1e12, 10**9, 10**400, -(10**9), float("inf"), float("nan"), None, (), (3,), {"a": 1}]
# Texts, whose values are checked elsewhere, and switches.
OTHERS = ("name", "space", "by_products", "blob_after_exp")


def places(tree: dict) -> Iterator[tuple[dict, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from places(value)
        else:
            yield tree, key


def build(config: dict) -> int:
    scene = NerfScene.from_config(ml_collections.ConfigDict(config))
    shapes = jax.eval_shape(lambda key: scene.init(key), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", ["quick", "paper", "stable_diffusion"])
def test_every_number_of_a_scene_has_a_range(name):
    """Before anything is allocated, traced or compiled."""
    config = load_config(name).scene.to_dict()
    assert build(config) < 1e8
    tried = 0
    for tree, key in list(places(config)):
        if key in OTHERS:
            continue
        right = tree[key]
        for wrong in WRONG:
            if key == "points_per_chunk" and wrong == 10**9:
                continue
            tree[key] = wrong
            with pytest.raises(UserError, match=key) as refused:
                build(config)
            assert len(str(refused.value)) < 200
            tried += 1
        tree[key] = right
    assert tried > 60


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("scene.lambda_sigma", {"start": None, "end": 0.0, "steps": 3}),
        ("scene.lambda_sigma", {"start": 10**400, "end": 0.0, "steps": 3}),
        ("scene.lambda_sigma", {"start": 0.1, "end": 0.0, "steps": [3]}),
        ("scene.lambda_sigma", 3.0),
        ("export", 3.0),
        ("eval_camera", {"elevation": "high"}),
        ("scene", {"field": ["grid"]}),
    ],
)
def test_configs_of_runs_that_were_changed_are_refused(part, value, tmp_path):
    config = json.loads(load_config("quick").to_json())
    (tmp_path / FOLDER).mkdir()
    *parents, key = part.split(".")
    owner = functools.reduce(dict.__getitem__, parents, config)
    for change in (lambda: owner.update({key: value}), lambda: owner.pop(key)):
        change()
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match=f"{part}|{key}|config.json"):
            restore_run(tmp_path)


def test_switches_and_texts_are_of_their_kind():
    @registry.register("test part", "one")
    class Part:
        def __init__(self, flag: bool = False, word: str = "", share: "float" = 0.5):
            pass

    registry.build("test part", {"name": "one", "flag": True, "word": "a", "share": 1}, "part")
    for wrong in ({"flag": 1}, {"word": 3}, {"share": True}, {"share": "1"}):
        (key,) = wrong
        with pytest.raises(UserError, match=rf"part\.{key} is .*; it must be"):
            registry.build("test part", {"name": "one", **wrong}, "part")
