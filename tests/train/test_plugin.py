"""A field, a prior and a guidance that learns come from a user's config file alone."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

import dreamfusion_jax
from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.diffusion.load import find_prior
from dreamfusion_jax.errors import NoSurface, UserError
from dreamfusion_jax.registry import class_of
from dreamfusion_jax.train.checkpoint import read_config, restore_run
from dreamfusion_jax.train.metrics import read_metrics

PLUGIN = Path(__file__).parent / "plugin.py"

# Two scenes on some devices, stopped after the first checkpoint where asked.
PROGRAM = """
import json, pathlib, sys
import jax
devices, folder, stop, plugin = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(devices))
from dreamfusion_jax.config import load_config
from dreamfusion_jax.diffusion.load import load_prior
from dreamfusion_jax.train.loop import Callbacks, train
from dreamfusion_jax.train.run_store import Job
from dreamfusion_jax.train.stage import make_stages
config = load_config(plugin)
prior = load_prior(config.prior.name, image_size=8)
jobs = [Job(prompt, 0, pathlib.Path(folder) / prompt) for prompt in ("a ball", "a cube")]
stages = make_stages(config, lambda size: prior, int(devices))
def interrupt(job, step, scene, params):
    if step == 4 and stop == "stop":
        raise KeyboardInterrupt
try:
    hooks = Callbacks(interrupt)
    state = train(config, stages, lambda size: prior, jobs, callbacks=hooks, progress=False)
except KeyboardInterrupt:
    sys.exit(0)
keep = state.params, state.guidance_params, state.guidance_opt_state
print(json.dumps([x.tolist() for x in jax.tree.leaves(keep)]))
"""


def run(devices: int, folder: Path, stop: bool = False) -> list[np.ndarray]:
    settings = (devices, folder, "stop" if stop else "", PLUGIN)
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *map(str, settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [np.array(x) for x in json.loads(done.stdout)] if not stop else []


@pytest.mark.slow
def test_what_a_guidance_learns_is_shared_saved_and_resumed(tmp_path):
    whole = run(2, tmp_path / "whole")
    run(2, tmp_path / "broken", stop=True)
    assert {p.name for p in (tmp_path / "broken" / "a ball" / "checkpoints" / "4").iterdir()} >= {
        "params", "opt_state", "guidance_params", "guidance_opt_state"
    }  # fmt: skip
    for a, b in zip(whole, run(2, tmp_path / "broken"), strict=True):
        np.testing.assert_array_equal(a, b)  # bit for bit
    for a, b in zip(whole, run(1, tmp_path / "one"), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-4)
    images = next(x for x in whole if x.shape == (2, 8, 8, 3))
    assert np.abs(images[0] - images[1]).max() > 0.01  # each scene has its own


@pytest.mark.slow
def test_a_prompt_goes_through_what_a_plugin_brings(own_registry, tmp_path, capsys):
    export = {"export.turntable_frames": 2, "export.turntable_size": 16}
    how = {"config": str(PLUGIN), "progress": False, "train.batch_size": 1, **export}
    how |= {"train.steps": 80, "train.checkpoint_every": 80, "train.preview_every": 80}
    with contextlib.suppress(NoSurface):
        dreamfusion_jax.generate("a ball", workdir=tmp_path / "run", **how)
    assert read_config(tmp_path / "run").prior.to_dict() == {
        "name": "discs", "dtype": "float32", "replace_unknown_nouns": True, "softness": 2.0
    }  # fmt: skip
    assert "each step has 2" in capsys.readouterr().err  # as the prior looks at pairs of views
    assert read_metrics(tmp_path / "run")[-1]["phi_loss"] > 0
    image = np.asarray(PIL.Image.open(tmp_path / "run" / "previews" / "000080.png"), float)
    red, green = image[..., :3].reshape(-1, 3).mean(0)[:2]
    assert red > green + 10  # a ball of `discs` is red, a cube green
    with pytest.raises(UserError, match="knows no 'sphere', .* that it knows are ball, cube"):
        dreamfusion_jax.generate("a sphere", workdir=tmp_path / "other", **how)
    with pytest.raises(UserError, match="prior has no key 'edge'; it takes softness"):
        find_prior("discs", edge=3.0)


@pytest.mark.slow
def test_objects_stand_where_names_do(own_registry, tmp_path):
    """A prior and a config as a notebook has them; they are those that the names mean."""
    config = load_config(str(PLUGIN))
    override(config, {"export.turntable_frames": 2, "export.turntable_size": 16})
    prior = class_of("prior", "discs")(softness=2.0)
    for name, how in (("names", {}), ("objects", {"prior": prior})):
        with contextlib.suppress(NoSurface):
            workdir = tmp_path / name
            dreamfusion_jax.generate("a ball", config, workdir, progress=False, **how)
    runs = [restore_run(tmp_path / name).params for name in ("names", "objects")]
    jax.tree.map(np.testing.assert_array_equal, *runs)
    out = tmp_path / "ball.png"
    dreamfusion_jax.sample("a ball", out, prior=prior, size=8, method="ddim", steps=8, count=1)
    red, green = np.asarray(PIL.Image.open(out), float)[..., :3].reshape(-1, 3).mean(0)[:2]
    assert red > green + 10


def test_keys_and_values_of_a_plugin_are_checked(own_registry):
    config = load_config(str(PLUGIN))
    with pytest.raises(UserError, match="no config key 'guidance.omega'"):
        override(config, {"guidance.omega": 3.0})
    override(config, {"guidance.name": "sds", "guidance.omega": 3.0})
    assert config.guidance.t_max.to_dict() == {"start": 0.98, "end": 0.98, "steps": 0}
    with pytest.raises(UserError, match="There is no guidance 'x'; choose one of"):
        override(config, {"guidance.name": "x"})
