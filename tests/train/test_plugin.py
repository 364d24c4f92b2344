"""A field and a guidance with a network of its own come from a user's config file alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.errors import UserError

PLUGIN = Path(__file__).parent / "plugin.py"

# Two scenes on some devices, stopped after the first checkpoint where asked.
PROGRAM = """
import json, pathlib, sys
import jax
devices, folder, stop, here, plugin = sys.argv[1:]
jax.config.update("jax_num_cpu_devices", int(devices))
sys.path.insert(0, here)
from conftest import ball_prior
from dreamfusion_jax.config import load_config
from dreamfusion_jax.train.loop import Callbacks, train
from dreamfusion_jax.train.run_store import Job
from dreamfusion_jax.train.stage import make_stages
config, prior = load_config(plugin), ball_prior()
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
    settings = (devices, folder, "stop" if stop else "", PLUGIN.parent, PLUGIN)
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *map(str, settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [np.array(x) for x in json.loads(done.stdout)] if not stop else []


@pytest.mark.slow
def test_what_a_guidance_learns_is_shared_saved_and_resumed(tmp_path):
    whole = run(2, tmp_path / "whole")
    run(2, tmp_path / "broken", stop=True)
    assert {p.name for p in (tmp_path / "broken" / "a ball" / "checkpoints" / "4").iterdir()} >= {
        "scene", "optimizer", "guidance", "guidance_optimizer"
    }  # fmt: skip
    for a, b in zip(whole, run(2, tmp_path / "broken"), strict=True):
        np.testing.assert_array_equal(a, b)  # bit for bit
    for a, b in zip(whole, run(1, tmp_path / "one"), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-4)
    images = next(x for x in whole if x.shape == (2, 8, 8, 3))
    assert np.abs(images[0] - images[1]).max() > 0.01  # each scene has its own


def test_keys_and_values_of_a_plugin_are_checked():
    config = load_config(str(PLUGIN))
    with pytest.raises(UserError, match="no config key 'guidance.omega'"):
        override(config, {"guidance.omega": 3.0})
    override(config, {"guidance.name": "sds", "guidance.omega": 3.0})
    assert config.guidance.t_max.to_dict() == {"start": 0.98, "end": 0.98, "steps": 0}
    with pytest.raises(UserError, match="There is no guidance 'x'; choose one of"):
        override(config, {"guidance.name": "x"})
