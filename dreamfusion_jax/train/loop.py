"""The loop: calls the compiled program, logs, checkpoints, draws previews."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Key
from tqdm.auto import tqdm

from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.render import Scene, init_params
from dreamfusion_jax.train.checkpoint import FOLDER, Checkpoints
from dreamfusion_jax.train.metrics import MetricsLog, first_non_finite, means
from dreamfusion_jax.train.parallel import compile_steps, replicate
from dreamfusion_jax.train.state import TrainState, initial_state
from dreamfusion_jax.train.task import Stage, check_intervals, make_stages


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """What happens beside the optimisation: `preview(step, scene, params)`, or None."""

    preview: Callable[[int, Scene, Any], None] | None = None


def train(
    config: ml_collections.ConfigDict,
    prior: Prior,
    workdir: Path,
    *,
    final_prior: Prior | None = None,
    callbacks: Callbacks = Callbacks(),
    progress: bool = True,
) -> TrainState:
    """Optimises a scene from its newest checkpoint, or from the start, to the last step.

    Every number that is drawn depends on config.seed and the step alone, so a run that
    was interrupted and repeated equals an unbroken one bit for bit.

    Args:
      config: of the run.
      prior: the frozen model.
      workdir: where checkpoints and metrics go.
      final_prior: the model for the last train.final_steps steps; None takes `prior`.
      callbacks: what happens besides.
      progress: whether to show a progress bar.

    Raises:
      UserError: a loss or gradient is not finite (names the step and the last good
        checkpoint), a checkpoint cannot be read or written, or the config is invalid.
      KeyboardInterrupt: after saving a checkpoint.
    """
    check_intervals(config.train)
    stages = make_stages(config, prior, final_prior or prior)
    scene = stages[0].task.scene
    seed_key = jax.random.key(config.seed)
    params = init_params(scene, jax.random.fold_in(seed_key, 2**31 - 1))
    state = initial_state(params, stages[0].task.optimizer)
    checkpoints = Checkpoints(workdir / FOLDER)
    if checkpoints.latest_step() is not None:
        state = _restore(checkpoints, state)
    start = int(state.step)
    log = MetricsLog(workdir, resume_step=start)

    state, steps, step = replicate(state), config.train.steps, start
    with tqdm(total=steps, initial=start, unit="step", disable=not progress) as bar:
        try:
            for count, run in _calls(config, stages, seed_key, start):
                began = time.perf_counter()
                state, metrics = run(state)
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
                    callbacks.preview(step, scene, jax.device_get(state.params))
        except KeyboardInterrupt:
            _save(checkpoints, state)
            raise
        finally:
            checkpoints.close()
    return jax.device_get(state)


def _calls(
    config: ml_collections.ConfigDict, stages: list[Stage], seed_key: Key[Array, ""], start: int
) -> Iterator[tuple[int, Callable[[TrainState], tuple[TrainState, dict]]]]:
    """The number of steps of each call from step `start` on, and the program that runs them."""
    step = start
    for stage in stages:
        prior, prompts = stage.task.prior, stage.task.view_prompts.prompts(config.prompt)
        compiled: dict[int, Callable] = {}  # the last call may be shorter than the others
        frozen = None
        while step < stage.end:
            frozen = frozen or replicate((prior.params, prior.encode(prompts), seed_key))
            count = min(config.train.steps_per_call, stage.end - step)
            if count not in compiled:
                compiled[count] = compile_steps(stage.task, count)
            yield count, lambda state, run=compiled[count], frozen=frozen: run(state, *frozen)
            step += count


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
