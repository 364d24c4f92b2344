import jax
import numpy as np
import pytest

from dreamfusion_jax import cli
from dreamfusion_jax.scene.mesh.scene import MeshScene
from dreamfusion_jax.train.checkpoint import restore_run

SMALL = {
    "train.steps": 2,
    "train.steps_per_call": 2,
    "train.checkpoint_every": 2,
    "train.preview_every": 2,
    "train.image_size": 8,
    "scene.field.width": 16,
    "scene.sampler.coarse_samples": 8,
    "scene.sampler.fine_samples": 8,
    "export.turntable_frames": 2,
    "export.turntable_size": 16,
    "export.mesh_resolution": 16,
    "prior.dtype": "float32",
}
# Views of 8 pixels, then of 16, enlarged to what the encoder takes.
HASH_GRID = {
    "scene.field.levels": 3,
    "scene.field.cells": 32,
    "scene.sampler.cells": 8,
    "train.steps_per_call": 1,
    "stages.larger.begin": 0.5,
    "stages.larger.train.image_size": 16,
    "stages.largest.begin": 1.0,  # never
}


@pytest.mark.slow
@pytest.mark.parametrize("color_space", ["rgb", "latent"])
def test_stable_diffusion_from_prompt_to_files(sd_folder, tmp_path, capsys, color_space):
    """Through the Jacobian of the VAE's encoder, and with latents that are rendered."""
    values = SMALL | HASH_GRID | {"prior.name": sd_folder, "scene.space": color_space}
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    command = ["generate", "a chair", "--config=stable_diffusion", f"--workdir={tmp_path / 'run'}"]
    assert cli.main([*command, *flags]) == 0, capsys.readouterr().err
    assert "turntable.mp4, mesh.glb, report.html" in capsys.readouterr().out
    heads = restore_run(tmp_path / "run").params["field"]["params"]["heads"]["kernel"]
    assert heads.shape == (16, 4 if color_space == "rgb" else 5)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["magic3d", "fantasia3d"])
def test_surfaces_by_stable_diffusion(sd_folder, tmp_path, capsys, config):
    """The colors of the second stage leave the surface of Fantasia3D's first as it is."""
    values = SMALL | {
        "prior.name": sd_folder,
        "train.steps": 3,
        "train.steps_per_call": 1,
        "train.checkpoint_every": 1,
        "train.preview_every": 3,
        "scene.field.levels": 3,
        "scene.field.cells": 32,
    }
    if config == "magic3d":
        # Cells so great would find the fog of a density that has not learned yet opaque.
        own = {"train.image_size": 16, "scene.cells": 12, "convert.thickness": 0.5}
        values |= {f"stages.surface.{key}": value for key, value in own.items()}
        values |= {"stages.surface.begin": 0.34, "scene.sampler.cells": 8}
    else:
        del values["scene.sampler.coarse_samples"], values["scene.sampler.fine_samples"]
        values |= {"scene.cells": 12, "stages.colors.begin": 0.67}
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    command = ["generate", "a chair", f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    assert cli.main([*command, *flags]) == 0, capsys.readouterr().err
    before, after = (restore_run(tmp_path / "run", step) for step in (2, 3))
    assert isinstance(before.scene, MeshScene) and isinstance(after.scene, MeshScene)
    moved = [
        any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, pair), strict=True))
        for pair in ((before.params[k], after.params[k]) for k in ("field", "surface"))
    ]
    assert moved == [True, config == "magic3d"]
