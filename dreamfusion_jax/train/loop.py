"""The loop: calls the compiled program, logs, checkpoints, draws previews."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from tqdm.auto import tqdm

from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.render import Scene, init_params
from dreamfusion_jax.train.checkpoint import FOLDER, Checkpoints
from dreamfusion_jax.train.metrics import MetricsLog, first_non_finite, means
from dreamfusion_jax.train.parallel import compile_steps, replicate
from dreamfusion_jax.train.state import TrainState, initial_state
from dreamfusion_jax.train.task import check_intervals, make_task


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """What happens beside the optimisation: `preview(step, scene, params)`, or None."""

    preview: Callable[[int, Scene, Any], None] | None = None


def train(
    config: ml_collections.ConfigDict,
    prior: Prior,
    workdir: Path,
    *,
    callbacks: Callbacks = Callbacks(),
    progress: bool = True,
) -> TrainState:
    """Optimises a scene from its newest checkpoint, or from the start, to the last step.

    Every number that is drawn depends on config.seed and the step alone, so a run that
    was interrupted and repeated equals an unbroken one bit for bit.

    Raises:
      UserError: a loss or gradient is not finite (names the step and the last good
        checkpoint), a checkpoint cannot be read or written, or the config is invalid.
      KeyboardInterrupt: after saving a checkpoint.
    """
    check_intervals(config.train)
    task = make_task(config, prior)
    seed_key = jax.random.key(config.seed)
    params = init_params(task.scene, jax.random.fold_in(seed_key, 2**31 - 1))
    state = initial_state(params, task.optimizer)
    checkpoints = Checkpoints(workdir / FOLDER)
    if checkpoints.latest_step() is not None:
        state = _restore(checkpoints, state)
    start = int(state.step)
    log = MetricsLog(workdir, resume_step=start)

    embeddings = prior.encode(task.view_prompts.prompts(config.prompt))
    state, frozen = replicate(state), replicate((prior.params, embeddings, seed_key))
    run = _programs(task)
    steps, per_call = config.train.steps, config.train.steps_per_call
    step = start
    with tqdm(total=steps, initial=start, unit="step", disable=not progress) as bar:
        try:
            while step < steps:
                began, count = time.perf_counter(), min(per_call, steps - step)
                state, metrics = run(count)(state, *frozen)
                metrics = {k: np.asarray(v) for k, v in jax.device_get(metrics).items()}
                _stop_if_not_finite(step, metrics, checkpoints)
                step += count
                rate = count * config.train.views / (time.perf_counter() - began)
                log.write(step, means(metrics) | {"views_per_second": round(rate, 3)})
                bar.set_postfix(_summary(metrics, rate), refresh=False)
                bar.update(count)
                if step % config.train.checkpoint_every == 0 or step == steps:
                    _save(checkpoints, state)
                if callbacks.preview and (step % config.train.preview_every == 0 or step == steps):
                    callbacks.preview(step, task.scene, jax.device_get(state.params))
        except KeyboardInterrupt:
            _save(checkpoints, state)
            raise
        finally:
            checkpoints.close()
    return jax.device_get(state)


def _programs(task) -> Callable[[int], Callable]:
    compiled: dict[int, Callable] = {}  # the last call may be shorter than the others

    def get(count: int) -> Callable:
        if count not in compiled:
            compiled[count] = compile_steps(task, count)
        return compiled[count]

    return get


def _save(checkpoints: Checkpoints, state: TrainState) -> None:
    host = jax.device_get(state)
    if int(host.step) != checkpoints.latest_step():
        checkpoints.save(int(host.step), {"scene": host.params, "optimizer": host.opt_state})


def _restore(checkpoints: Checkpoints, like: TrainState) -> TrainState:
    step = checkpoints.latest_step()
    items = checkpoints.restore({"scene": like.params, "optimizer": like.opt_state}, step)
    return TrainState(jnp.int32(step), items["scene"], items["optimizer"])


def _stop_if_not_finite(step: int, metrics: dict, checkpoints: Checkpoints) -> None:
    found = first_non_finite(metrics)
    if found is None:
        return
    index, name = found
    good = checkpoints.latest_step()
    last = f"the last good checkpoint is step {good}" if good else "there is no checkpoint yet"
    raise UserError(
        f"{name} is not finite at step {step + index + 1}, so the run has stopped; {last} in "
        f"{checkpoints.folder}; try a smaller --config.optim.learning_rate or another --seed."
    )


def _summary(metrics: dict[str, np.ndarray], rate: float) -> dict[str, str]:
    shown = {k: f"{np.mean(metrics[k]):.3g}" for k in ("residual", "opacity", "orientation")}
    return shown | {"views/s": f"{rate:.1f}"}
