"""Several scenes in one program."""

import jax
import numpy as np
import pytest

from dreamfusion_jax.train.checkpoint import FOLDER, Checkpoints, restore_run, write_config
from dreamfusion_jax.train.loop import Callbacks, train
from dreamfusion_jax.train.metrics import read_metrics
from dreamfusion_jax.train.parallel import device_count
from dreamfusion_jax.train.run_store import Job, plan
from dreamfusion_jax.train.stage import make_stage
from dreamfusion_jax.train.state import take_scene

PROMPTS = ("a ball", "a cube")
SHAMPOO = {
    "optim__name": "shampoo",
    "optim__shampoo__preconditioning_compute_steps": 2,
    "optim__shampoo__start_preconditioning_step": 1,
}


@pytest.mark.slow
def test_two_scenes_together_equal_the_two_alone(tiny_config, ball_prior, train_one, tmp_path):
    config = tiny_config(**SHAMPOO)
    jobs = [Job(prompt, 0, tmp_path / prompt) for prompt in PROMPTS]
    stage = make_stage(config, ball_prior, device_count(config.train.batch_size))
    together = train(config, [stage], lambda size: ball_prior, jobs, progress=False)
    for i, job in enumerate(jobs):
        with config.unlocked():
            config.prompt.text = job.prompt
        alone = train_one(config, ball_prior, tmp_path / f"{job.prompt} alone")
        own = take_scene(together, i)
        for a, b in zip(jax.tree.leaves(own.params), jax.tree.leaves(alone.params), strict=True):
            # Sums are taken in another order, and the first steps blow differences up.
            np.testing.assert_allclose(a, b, atol=5e-4)
        write_config(job.workdir, config)
        for x, y in zip(
            jax.tree.leaves(restore_run(job.workdir).params["field"]),
            jax.tree.leaves(own.params["field"]),
            strict=True,
        ):
            np.testing.assert_array_equal(x, y)
    colors = [take_scene(together, i).params for i in range(2)]
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), *colors)
    assert max(jax.tree.leaves(gaps)) > 0.01  # they are different scenes


@pytest.mark.slow
def test_scenes_that_were_saved_at_different_steps_go_on_together(
    tiny_config, ball_prior, tmp_path
):
    config = tiny_config()
    stage = make_stage(config, ball_prior, device_count(config.train.batch_size))
    whole = [Job(prompt, 0, tmp_path / "whole" / prompt) for prompt in PROMPTS]
    broken = [Job(prompt, 0, tmp_path / "broken" / prompt) for prompt in PROMPTS]
    expected = train(config, [stage], lambda size: ball_prior, whole, progress=False)
    seen = []
    preview = Callbacks(lambda job, step, scene, params: seen.append((job.prompt, step)))
    train(config, [stage], lambda size: ball_prior, broken, callbacks=preview, progress=False)
    assert seen == [(prompt, step) for step in (4, 8) for prompt in PROMPTS]

    Checkpoints(broken[1].workdir / FOLDER).drop_after(4)  # killed between two saves
    resumed = train(config, [stage], lambda size: ball_prior, broken, progress=False)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    for job in broken:
        assert [row["step"] for row in read_metrics(job.workdir)] == [2, 4, 6, 8]


def test_groups_have_a_common_step(tmp_path):
    saved = {"a": (), "b": (4, 6), "c": (6, 8), "d": (), "e": (2,), "f": (), "g": (8, 10)}
    jobs = [Job(name, 0, tmp_path / name) for name in saved]
    for job in jobs:
        for step in saved[job.prompt]:
            (job.workdir / FOLDER / str(step)).mkdir(parents=True)
    groups = plan(jobs, size=2, last_step=10)
    assert ["".join(job.prompt for job in group) for group in groups] == ["ad", "bc", "e", "f"]
    assert plan(jobs[-1:], size=2, last_step=10) == []  # it is finished
