import json

import jax
import ml_collections
import numpy as np
import pytest

from dreamfusion_jax import results
from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.video import write_video
from dreamfusion_jax.export.view_settings import check_export
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.train.checkpoint import FOLDER, Checkpoints, restore_run, write_config
from dreamfusion_jax.train.workdir import runs_in


@pytest.fixture
def workdir(tmp_path):
    """A run with a checkpoint of step 4, written before there were textures."""
    config = load_config("quick")
    override(config, {"prompt.text": "a ball", "scene.field.cells": 8})
    plain = config.to_dict()
    del plain["export"]["triangles"], plain["export"]["texture_size"]
    write_config(tmp_path, ml_collections.ConfigDict(plain))
    scene = NerfScene.from_config(config.scene)
    checkpoints = Checkpoints(tmp_path / FOLDER)
    checkpoints.save(4, {"params": scene.init(jax.random.key(0))})
    checkpoints.close()
    return tmp_path


def test_older_runs_take_export_settings_they_do_not_have_from_the_paper(workdir):
    run = restore_run(workdir)
    assert run.step == 4
    assert run.config.export.triangles == load_config("paper").export.triangles
    assert run.config.eval_camera.focal == load_config("quick").eval_camera.focal


def test_a_result_shows_what_there_is(workdir):
    result = results.read_result(workdir)
    assert "<video" not in result._repr_html_()
    write_video([np.zeros((16, 48, 3), np.uint8)] * 2, result.video, 8)
    result.mesh.write_bytes(b"glTF of another program")
    page = result._repr_html_()
    assert "<video" in page and "<iframe" not in page and str(workdir) in page


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("triangles", 50, "triangle budget is 50"),
        ("texture_size", 16, "texture size is 16"),
        ("turntable_frames", 0, "frames 0"),
        ("mesh_resolution", 4, "mesh resolution is 4"),
    ],
)
def test_export_settings_are_checked_before_anything_is_optimized(key, value, message):
    config = load_config("quick")
    check_export(config.export, config.eval_camera)
    override(config, {f"export.{key}": value})
    with pytest.raises(UserError, match=message):
        check_export(config.export, config.eval_camera)


def test_view_shows_newer_checkpoints_and_closes_its_page(workdir, monkeypatch):
    seen = []

    class Page:
        url, closed = "http://here", False

        def show(self, params, step, scene):
            seen.append(step)

        def close(self):
            seen.append("closed")

    def sleep(_):
        if seen == [8]:
            raise KeyboardInterrupt
        checkpoints = Checkpoints(workdir / FOLDER)
        checkpoints.save(8, {"params": restore_run(workdir).params})
        checkpoints.close()
        seen.clear()

    monkeypatch.setattr(results, "open_viewer", lambda *_: Page())
    monkeypatch.setattr(results.time, "sleep", sleep)
    results.view(workdir)
    assert seen == [8, "closed"]


def test_config_says_how_a_run_was_shown_last(workdir):
    from dreamfusion_jax.train.workdir import create_or_check_workdir

    config = restore_run(workdir).config
    override(config, {"export.turntable_size": 64})
    create_or_check_workdir(workdir, config)
    assert json.loads((workdir / "config.json").read_text())["export"]["turntable_size"] == 64


def test_what_is_no_run_of_a_prompt_is_left_out(tmp_path, capsys):
    for name, config in (("chair", {"prompt": {"text": "a chair"}}), ("prior", {"model": {}})):
        (tmp_path / name).mkdir()
        write_config(tmp_path / name, ml_collections.ConfigDict(config))
    assert runs_in([tmp_path]) == runs_in(sorted(tmp_path.iterdir())) == [tmp_path / "chair"]
    assert "prior is no run of a prompt, and is left out" in capsys.readouterr().err
