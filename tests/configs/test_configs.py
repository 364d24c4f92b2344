import pytest

from dreamfusion_jax.config import (
    config_module,
    config_names,
    load_config,
    override,
    stage_configs,
)
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.base import build_scene

ABLATIONS = config_module("ablations")


def test_penalty_weights_are_within_the_papers_ranges():
    penalties = load_config("paper").regularizers
    assert 1e-3 <= penalties.opacity.start == penalties.opacity.end <= 5e-3
    assert 1e-3 <= penalties.orientation.end <= 1e-1


@pytest.mark.parametrize("name", config_names())
def test_configs_are_locked_and_documented(name):
    config = load_config(name)
    assert config.is_locked
    docstring = config_module(name).__doc__
    for word in ("Command:", "Hardware:", "Time:", "Expected:"):
        assert word in docstring
    if "stages" in config:
        stages = stage_configs(config)
        assert len(stages) == 1 + len(config.stages)
        for stage in stages:
            hash(build_scene(stage.config.scene))


def test_overrides_take_the_type_of_the_value():
    config = load_config("quick")
    override(
        config,
        {
            "train.steps": "7",
            "guidance.omega": "20",
            "camera.focal_range": "(1, 1.2)",
            "prior.name": "furniture-unet",
            "optim.adam.eps": 1e-8,
        },
    )
    assert config.train.steps == 7 and isinstance(config.train.steps, int)
    assert config.guidance.omega == 20.0 and isinstance(config.guidance.omega, float)
    assert config.camera.focal_range == (1.0, 1.2)
    assert config.prior.name == "furniture-unet" and config.optim.adam.eps == 1e-8
    assert config.is_locked
    config = load_config("prior_small")
    override(
        config,
        {
            "data.nouns": "('table', 'sofa')",
            "model.unet.block_out_channels": "(8, 16)",
            "augment.scale": "1",
        },
    )
    assert config.data.nouns == ("table", "sofa")
    assert [type(n) for n in config.model.unet.block_out_channels] == [int, int]
    override(config, {"data.nouns": "()", "model.unet.encoder_hid_dim": "16"})
    assert config.data.nouns == () and config.model.unet.encoder_hid_dim == 16


def test_stages_take_keys_that_they_have_not_set():
    config = load_config("quick")
    override(config, {"stages.surface.train.batch_size": "3", "stages.surface.convert.fade": "0.5"})
    override(config, {"stages.surface.light.textureless_probability": 0.5})
    first, second = stage_configs(config)
    assert second.config.light.textureless_probability == 0.5
    assert second.config.train.batch_size == 3 != first.config.train.batch_size
    assert second.convert.to_dict() == {"name": "surface", "fade": 0.5}
    for key in ("stages.other.train.batch_size", "stages.surface.begin.x.y", "stages.surface.x"):
        with pytest.raises(UserError, match=f"no config key '{key}'"):
            override(config, {key: "3"})
    override(config, {"stages.surface.train.batch_sise": "3"})
    with pytest.raises(UserError, match="stages.surface: .*Did you mean train.batch_size"):
        stage_configs(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.step", "5", "no config key 'train.step'. Did you mean train.steps"),
        ("steps", "5", "Did you mean .*train.steps"),
        ("train.steps", "many", r"value like 1?\d+ \(int\), not 'many'"),
        ("train.steps", "1.5", "not 1.5"),
        ("camera.focal_range", "1.0", "not 1.0"),
        ("camera.focal_range", "(1.0, 1.1, 1.2)", "not .1.0, 1.1, 1.2"),
        ("camera.focal_range", "('a', 'b')", "not .'a', 'b'"),
        ("camera", "1.0", "no config key 'camera'"),
        ("prior.name", 5, r"\(str\), not 5"),
    ],
)
def test_bad_overrides_are_one_sentence(key, value, message):
    with pytest.raises(UserError, match=message):
        override(load_config("paper"), {key: value})


def test_configs_from_files(tmp_path):
    good = tmp_path / "mine.py"
    good.write_text(
        "from dreamfusion_jax.config import load_config\n"
        "def get_config():\n"
        "    config = load_config('quick')\n"
        "    with config.unlocked():\n"
        "        config.train.steps = 3\n"
        "    return config\n"
    )
    assert load_config(str(good)).train.steps == 3
    (tmp_path / "bad.py").write_text("1 / 0\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    for name, message in (
        ("bad", "cannot be run"),
        ("ends", "cannot be run"),
        ("empty", "no function"),
        ("x", "no config"),
    ):
        with pytest.raises(UserError, match=message):
            load_config(str(tmp_path / f"{name}.py"))
    with pytest.raises(UserError, match="give one of .*quick"):
        load_config("fast")


@pytest.mark.parametrize("row", ABLATIONS.ROWS)
def test_rows_of_the_ablation_table_differ_from_the_default(row):
    config, default = load_config(f"ablations.{row}"), load_config("quick")
    assert config.is_locked and (config.to_dict() != default.to_dict()) == (row != "surface")


def test_figure_6_adds_to_the_row_before():
    assert [*ABLATIONS.FIGURE_6] == ["base", "views", "view_prompts", "lighting", "textureless"]
    changes = [load_config(f"ablations.{row}") for row in ABLATIONS.FIGURE_6]
    assert [c.camera.azimuth_range == (0.0, 360.0) for c in changes] == [False] + 4 * [True]
    assert [c.prompt.view_words != "none" for c in changes] == 2 * [False] + 3 * [True]
    assert [c.light.lit_probability > 0 for c in changes] == 3 * [False] + 2 * [True]
    assert [c.light.textureless_probability for c in changes] == 4 * [0.0] + [0.5]
