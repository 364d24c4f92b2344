import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import trimesh

from dreamfusion_jax import cli
from dreamfusion_jax.furniture.shipped import asset_folder
from dreamfusion_jax.guidance.image_text_prior import load_image_text
from dreamfusion_jax.pretrained.clip_folder import load_clip
from dreamfusion_jax.scene.background import Textures
from dreamfusion_jax.train.checkpoint import restore_run
from dreamfusion_jax.train.metrics import read_metrics

sys.path.insert(0, str(Path(__file__).parents[2] / "launch"))
from make_model_folder import clip_config, write_clip  # noqa: E402

SMALL = {
    "train.steps": 30,
    "train.steps_per_call": 10,
    "train.checkpoint_every": 30,
    "train.preview_every": 30,
    "train.image_size": 20,
    "train.batch_size": 2,
    "scene.field.width": 16,
    "scene.field.blocks": 1,
    "scene.sampler.coarse_samples": 12,
    "scene.sampler.fine_samples": 8,
    "optim.learning_rate": 1e-2,
    "optim.final_learning_rate": 1e-2,
    "optim.warmup_steps": 1,
    "guidance.num_crops": 2,
    "export.turntable_frames": 2,
    "export.turntable_size": 16,
    "export.mesh_resolution": 16,
}


def flags(**more):
    return [f"--config.{key}={value}" for key, value in (SMALL | more).items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP model of random weights with small towers."""
    config = clip_config("b32")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small["num_attention_heads"] = 4
    config["vision_config"] |= small | {"patch_size": 8, "image_size": 32}
    config["text_config"] |= small | {"vocab_size": 1000}
    path = tmp_path_factory.mktemp("models") / "clip"
    write_clip(path, config, dtype="float32")
    return path


@pytest.mark.slow
def test_dream_fields_from_prompt_to_r_precision(folder, tmp_path, capsys):
    workdir = tmp_path / "runs" / "a-chair"
    command = ["generate", "a chair", "--config=dream_fields", f"--workdir={workdir}"]
    assert cli.main([*command, *flags(**{"prior.name": folder})]) == 0, capsys.readouterr().err
    distances = [row["clip_distance"] for row in read_metrics(workdir)]
    assert distances[-1] < distances[0] - 0.01, distances
    run = restore_run(workdir)
    assert isinstance(run.scene.background, Textures)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.params))
    captions = tmp_path / "captions.txt"
    captions.write_text("a chair\na front view of one table\n")
    command = ["evaluate", "--suite=clip", f"--clip={folder}", f"--prompts={captions}"]
    command += [str(tmp_path / "runs"), "--azimuths=1", "--elevation=45"]
    assert cli.main([*command, f"--out={tmp_path / 'scores.json'}"]) == 0
    assert "mean of 1 among 2" in capsys.readouterr().out


@pytest.mark.slow
def test_clip_mesh_from_prompt_to_a_mesh(folder, tmp_path, capsys):
    """Vertices, texture and normals move towards the text; the mesh is the sphere's."""
    workdir, values = tmp_path / "run", {k: v for k, v in SMALL.items() if "scene." not in k}
    values |= {"scene.halvings": 2, "scene.texture_size": 16, "guidance.num_crops": 1}
    values |= {"prior.name": folder, "train.image_size": 32, "train.batch_size": 4}
    values |= {f"train.{key}": 250 for key in ("steps", "checkpoint_every", "preview_every")}
    values |= {"train.steps_per_call": 50}
    # A model of random weights sees a small sphere over patterns as nothing but the patterns.
    values |= {"camera.distance_range": (2.5, 2.5), "camera.focal_range": (1.8, 1.8)}
    values |= {"camera.look_at_std": 0.0, "scene.background.name": "color"}
    command = ["generate", "a chair", "--config=clip_mesh", f"--workdir={workdir}"]
    command += [f"--config.{key}={value}" for key, value in values.items()]
    assert cli.main(command) == 0, capsys.readouterr().err
    distances = [row["clip_distance"] for row in read_metrics(workdir)]
    assert distances[-1] < distances[0] - 0.01, distances
    run = restore_run(workdir)
    start = run.scene.init(jax.random.key(0))
    for name in ("vertices", "normal_map"):
        assert np.abs(run.params[name] - start[name]).max() > 0.01
    mesh = trimesh.load(workdir / "mesh.glb", force="mesh")
    assert len(mesh.faces) == 320


def test_models_are_told_apart(folder):
    shipped = asset_folder("evaluator")
    assert load_image_text(shipped).image_size == 40
    assert load_image_text(folder).image_size == 32
    assert load_clip(folder).texts(["a chair", "a table"]).shape == (2, 512)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "there is no folder give --config.prior.name"),
        ({"prior.name": "furniture-unet"}, "there is no folder furniture-unet"),
        ({"prior.dtype": "float33"}, "prior.dtype is 'float33'"),
        ({"guidance.num_crops": 0}, "must be at least 1"),
        ({"guidance.crop_fraction": 0.0}, r"within \(0, 1\]"),
    ],
)
def test_bad_settings_are_refused(folder, tmp_path, capsys, values, message):
    values = ({"prior.name": folder} if values and "prior.name" not in values else {}) | values
    command = ["generate", "a chair", "--config=dream_fields", f"--workdir={tmp_path / 'run'}"]
    assert cli.main([*command, *flags(**values)]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
