import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.train.loop import Callbacks
from dreamfusion_jax.train.stage import make_stage

# Runs the tiny config on some virtual devices and prints the parameters.
PROGRAM = """
import json, pathlib, sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
sys.path.insert(0, sys.argv[3])
from conftest import ball_prior, tiny_config, train_one
config = tiny_config(field=sys.argv[4], train__batch_size=int(sys.argv[5]))
state = train_one(config, ball_prior(), pathlib.Path(sys.argv[2]))
print(json.dumps([len(jax.devices()), [x.tolist() for x in jax.tree.leaves(state.params)]]))
"""


def run_on(devices: int, workdir, here, field: str, views: int = 4) -> list:
    settings = map(str, (devices, workdir, here, field, views))
    command = [sys.executable, "-c", PROGRAM, *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("field", ["mlp", "grid"])
def test_four_devices_give_what_one_gives(
    tiny_config, ball_prior, train_one, tmp_path, request, field
):
    devices, on_four = run_on(4, tmp_path / "four", request.path.parent, field)
    assert devices == 4
    early = []
    callbacks = Callbacks(after_call=lambda job, step, metrics, scene, params: early.append(params))
    config = tiny_config(field=field)
    state = train_one(config, ball_prior, tmp_path / "one", callbacks=callbacks)
    for a, b in zip(jax.tree.leaves(state.params), on_four, strict=True):
        # The order of sums differs, and Adam's first steps blow differences up.
        np.testing.assert_allclose(a, np.array(b), atol=5e-4)
    # Far from the start: the agreement above says something.
    pairs = zip(*map(jax.tree.leaves, (state.params["field"], early[0]["field"])), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 0.004


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "views"), [(3, 6), (8, 8)])
def test_as_many_devices_as_can_share_the_views_give_what_one_gives(
    tiny_config, ball_prior, train_one, tmp_path, request, devices, views
):
    used, on_many = run_on(devices, tmp_path / "many", request.path.parent, "grid", views)
    assert used == devices and views % devices == 0  # so that all of them work
    config = tiny_config(field="grid", train__batch_size=views)
    state = train_one(config, ball_prior, tmp_path / "one")
    for a, b in zip(jax.tree.leaves(state.params), on_many, strict=True):
        np.testing.assert_allclose(a, np.array(b), atol=5e-4)


@pytest.mark.slow
def test_of_a_cpu_as_many_devices_work_as_can_share_the_views(
    tiny_config, ball_prior, train_one, tmp_path, request
):
    """Four views on three devices: two work."""
    devices, on_three = run_on(3, tmp_path / "three", request.path.parent, "mlp")
    assert devices == 3
    state = train_one(tiny_config(), ball_prior, tmp_path / "one")
    for a, b in zip(jax.tree.leaves(state.params), on_three, strict=True):
        np.testing.assert_allclose(a, np.array(b), atol=5e-4)


@pytest.mark.parametrize(("devices", "views"), [(1, 2), (2, 1), (3, 1), (8, 1)])
def test_elsewhere_there_are_views_for_all(ball_prior, devices, views):
    assert make_stage(load_config("quick"), ball_prior, devices).views == views


MESSAGES = """
import functools, json, re, sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
sys.path.insert(0, sys.argv[1])
from conftest import ball_prior, tiny_config
from dreamfusion_jax.train.loop import encode_prompts
from dreamfusion_jax.train.parallel import steps_program
from dreamfusion_jax.train.state import initial_state
from dreamfusion_jax.train.stage import make_stage
prior = ball_prior()
config = tiny_config(optim__name="shampoo", guidance__omega=10.0)
stage = make_stage(config, prior, 4)
keys = jax.random.split(jax.random.key(0), 2)
state = initial_state(stage.scene, stage.optimizer, keys)
embeddings = encode_prompts(stage, prior, ["a ball", "a cube"])
arguments = state, prior.params, embeddings, None, keys, jax.numpy.arange(4)
program = steps_program(stage, 3).lower(*arguments)
kinds = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|collective-broadcast"
found = re.findall(rf"= .*? ({kinds})(?:-start)?\\(", program.compile().as_text())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_step_sends_two_messages(request):
    """One all-reduce of the gradients, one all-gather of Shampoo's roots, nothing else."""
    command = [sys.executable, "-c", MESSAGES, str(request.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout.splitlines()[-1])) == ["all-gather", "all-reduce"]
