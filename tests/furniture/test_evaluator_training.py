"""A retrieval evaluator for a world of three things that differ in color, seen from four sides."""

import json

import numpy as np
import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.evaluator_training import train_evaluator
from dreamfusion_jax.furniture.evaluator_views import (
    EvaluatorViews,
    evaluator_angles,
    load_evaluator_views,
    select,
    shipped_views,
)
from dreamfusion_jax.furniture.object_views import load_object_views
from dreamfusion_jax.furniture.retrieval_evaluator import RetrievalEvaluator, check_evaluator

NOUNS = ("barrel", "cone", "teapot")
COLORS = np.array([[200, 30, 30], [30, 180, 40], [40, 60, 220]])


def world(count: int = 192) -> EvaluatorViews:
    """Squares; a bar on the left, right or above, or none, says where they are seen from."""
    rng = np.random.default_rng(0)
    noun, side = np.arange(count) % len(NOUNS), np.arange(count) // len(NOUNS) % 4
    rgba = np.zeros((count, 64, 64, 4), np.uint8)
    for i in range(count):
        x, y = rng.integers(24, 28, 2)
        rgba[i, y : y + 14, x : x + 14] = (*COLORS[noun[i]], 255)
        dx, dy = ((0, 0), (-10, 0), (18, 0), (0, -10))[side[i]]
        rgba[i, y + dy : y + dy + 8, x + dx : x + dx + 8] = 255
    azimuth = np.where(side == 3, 0.0, side * np.pi / 2)
    elevation = np.where(side == 3, 1.4, 0.3)
    held_out = np.arange(count) >= count // 2
    synonyms = (("cask",), (), ("pot",))
    textureless = np.arange(count) % 24 >= 12
    return EvaluatorViews(rgba, NOUNS, synonyms, noun, azimuth, elevation, textureless, held_out)


def small_config(steps: int):
    config = load_config("evaluator_furniture").unlock()
    config.nouns, config.optim.warmup_steps = "all", 10
    config.model.update({"image_channels": (16, 32), "image_blocks": (1, 1), "image_size": 32})
    config.train.update({"steps": steps, "batch": 16, "steps_per_call": 10, "checkpoint_every": 20})
    return config


@pytest.mark.slow
def test_learns_what_is_seen_and_from_where_and_resumes_exactly(stops_after_a_checkpoint, tmp_path):
    views = world()
    whole = train_evaluator(small_config(80), views, tmp_path / "whole", progress=False)
    figures = check_evaluator(RetrievalEvaluator.load(whole), views)
    assert figures["color: renders"] == 48 and figures["geo: renders"] == 48
    assert figures["color: top-1, %"] > 90 and figures["color: view word, %"] > 60

    with stops_after_a_checkpoint():
        train_evaluator(small_config(80), views, tmp_path / "parts", progress=False)
    parts = train_evaluator(small_config(80), views, tmp_path / "parts", progress=False)
    name = "model.safetensors"
    assert (parts / name).read_bytes() == (whole / name).read_bytes()
    steps = [json.loads(line)["step"] for line in (parts.parent / "metrics.jsonl").open()]
    assert steps == list(range(10, 90, 10))


def test_angles_are_those_of_the_view_and_never_the_same_again():
    azimuth, elevation = evaluator_angles("a", 20, held_out=False)
    again, _ = evaluator_angles("a", 20, held_out=False)
    other, low = evaluator_angles("a", 20, held_out=True)
    np.testing.assert_array_equal(azimuth, again)
    assert not np.isin(azimuth.round(4), other.round(4)).any()
    assert (np.degrees(elevation) > 60).sum() == 4 and np.degrees(low).max() <= 45
    assert sorted((azimuth / (2 * np.pi) * 20).astype(int)) == list(range(20))  # one in each sector


@pytest.fixture(scope="module")
def library():
    return shipped_views()


@pytest.mark.slow
def test_views_that_are_not_there_are_a_sentence(tmp_path, library):
    with pytest.raises(UserError, match="holds no views for a retrieval evaluator"):
        load_evaluator_views(tmp_path)
    (tmp_path / "index.json").write_text('{"views": {}}')
    (tmp_path / "views.npy").touch()
    with pytest.raises(UserError, match="holds no views for a retrieval evaluator"):
        load_evaluator_views(tmp_path)
    with pytest.raises(UserError, match="none of 'unicorn'"):
        select(library, ["vase", "unicorn"])


@pytest.mark.slow
def test_the_library_can_be_learnt_from(library):
    views = library
    assert len(views.nouns) == 128 and views.rgba.shape == (128 * 144, 64, 64, 4)
    table = views.nouns.index("table")
    own = np.flatnonzero(views.noun == table)
    np.testing.assert_array_equal(
        views.rgba[own], load_object_views(nouns=["table"], size=64).rgba[0]
    )
    assert np.ptp(views.azimuth[own]) > 6 and not views.held_out.any()
