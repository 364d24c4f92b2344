"""docs/extending.md: its blocks are one file, and its commands do what it says."""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax import cli
from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.generation import _asked
from dreamfusion_jax.scene.fields import GridField
from dreamfusion_jax.train.checkpoint import restore_run

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture
def parts(own_registry, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "my_parts.py").write_text("\n\n".join(blocks))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_kind_of_part_is_named():
    """Those of the registry that a user may add to."""
    kinds = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    from dreamfusion_jax import registry

    assert set(registry._SHIPPED) | {"prior", "command"} == set(kinds)


@pytest.mark.slow
def test_the_page_is_a_file_that_runs(parts, capsys):
    """The prompt's color comes through field, guidance and prior, and through both stages."""
    small = {"steps": 200, "checkpoint_every": 100, "preview_every": 100, "image_size": 16}
    small = [f"--config.train.{key}={value}" for key, value in small.items()]
    small += ["--config.export.turntable_frames=2", "--config.export.turntable_size=16"]
    cli.main(["generate", "a red ball", "--config=my_parts.py", *small])
    run = restore_run(parts / "outputs" / "a-red-ball")
    assert run.step == 200 and isinstance(run.scene.field, GridField)
    assert restore_run(parts / "outputs" / "a-red-ball", 100).config.scene.field.name == "triplane"
    preview = PIL.Image.open(parts / "outputs" / "a-red-ball" / "previews" / "000200.png")
    red, green, blue = np.asarray(preview, float)[: preview.height // 3].reshape(-1, 3).mean(0)
    assert red > green + 20 and red > blue + 20
    evaluate = ["evaluate", "--suite=saturation", "--plugin=my_parts.py", "outputs/a-red-ball"]
    assert cli.main([*evaluate, "--out=scores.json"]) == 0
    (saturation,) = json.loads(Path("scores.json").read_text()).values()
    assert 0.1 < saturation <= 1
    sample = ["sample", "a red ball", "--plugin=my_parts.py", "--prior=plain_colors", "--steps=8"]
    assert cli.main([*sample, "--method=ancestral", "--count=1", "--out=red.png"]) == 0
    image = np.asarray(PIL.Image.open("red.png"), float)[:32, :32, :3]
    assert image[..., 0].mean() > 128 > image[..., 1].mean()


def test_a_prior_is_told_of_every_prompt_that_a_guidance_asks_for(parts):
    config = load_config("my_parts.py")
    assert _asked(config, ["a sofa", "a chair"]) == ("a sofa", "a gray ball", "a chair")
    assert _asked(load_config("quick"), ["a sofa"]) == ("a sofa",)
    assert _asked(load_config("paper"), ["a sofa"]) == ()  # with the empty prompt it is anything


def test_keys_of_a_prior_are_set_as_all_others(parts):
    config = load_config("my_parts.py")
    assert config.prior.spread == 0.5 and config.prior.dtype == "float32"
    override(config, {"prior.spread": 0.2})
    override(config, {"prior.name": "some/folder"})
    assert set(config.prior) == {"name", "dtype", "replace_unknown_nouns"}


def test_values_of_the_parts_are_checked(parts, capsys):
    config = ["--config=my_parts.py", "--config.scene.field.cels=3"]
    assert cli.main(["generate", "a red ball", *config]) == 2
    assert "scene.field.cells" in capsys.readouterr().err
    assert load_config("my_parts.py").guidance.negative == "a gray ball"
