"""The loop: calls the compiled program, logs, checkpoints, draws previews."""

import contextlib
import dataclasses
import functools
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import PIL.Image
from tqdm.auto import tqdm

from dreamfusion_jax.diffusion.prior import FrozenModel, take_rows
from dreamfusion_jax.errors import Preempted
from dreamfusion_jax.scene.base import Scene
from dreamfusion_jax.train.checkpoint import scene_to_start_from
from dreamfusion_jax.train.metrics import means
from dreamfusion_jax.train.parallel import (
    broadcast,
    compile_steps,
    is_primary,
    on_primary,
    replicate,
    tree_of_primary,
)
from dreamfusion_jax.train.preemption import watch_for_signals
from dreamfusion_jax.train.run_store import Job, RunStore
from dreamfusion_jax.train.stage import Stage, own_cameras, stage_of
from dreamfusion_jax.train.state import TrainState, enter_stage, initial_state
from dreamfusion_jax.types import Conditioning

_PAUSE = 0.1  # seconds between two looks at whether a pause has ended


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """What happens beside the optimization, on the host that writes; None is nothing.

    `preview(job, step, scene, params)` is called at every preview and may return a picture for the
    log, `after_call(job, step, metrics, scene, params)` after every compiled call, with the
    metrics' means over its steps. Every compiled call, of `count` steps from `step` on, runs within
    the context `around_call(step, count)`. The optimization waits while `paused()`.
    """

    preview: Callable[[Job, int, Scene, Any], PIL.Image.Image | None] | None = None
    after_call: Callable[[Job, int, dict[str, float], Scene, Any], None] | None = None
    around_call: Callable[[int, int], contextlib.AbstractContextManager] | None = None
    paused: Callable[[], bool] | None = None


def train(
    config: ml_collections.ConfigDict,
    stages: Sequence[Stage],
    prior_at: Callable[[int], FrozenModel],
    jobs: Sequence[Job],
    *,
    callbacks: Callbacks = Callbacks(),
    progress: bool = True,
) -> TrainState:
    """Optimize scenes from their newest checkpoint, or from the start, to the last step.

    Every number that is drawn depends on the scene's seed and the step alone, so a run that
    was interrupted and repeated equals an unbroken one bit for bit, and a scene is the same
    (but for rounding) whatever it is optimized with, on however many devices and hosts.

    Args:
      config: of all the scenes.
      stages: what `make_stages` makes of the config, one after the other.
      prior_at: gives the frozen model for views of so many pixels a side.
      jobs: the scenes to optimize together.
      callbacks: what happens besides, on the host that writes.
      progress: whether to show a progress bar.

    Returns:
      The last state, with a leading axis of scenes.

    Raises:
      UserError: a loss or gradient is not finite (names the step and the last good
        checkpoint), or a checkpoint cannot be read or written.
      KeyboardInterrupt, Preempted: after saving a checkpoint.
    """
    total = stages[-1].until
    seed_keys = jnp.stack([jax.random.key(job.seed) for job in jobs])
    with contextlib.closing(RunStore(jobs)) as runs:
        begin = functools.partial(_begin, stages[0], seed_keys)
        # As one program: one small one for each operation would take seconds to compile.
        start = jax.jit(begin)()
        state = runs.restore(start, lambda step: _fresh(stage_of(stages, step), seed_keys))
        if config.get("init") and not int(state.step):
            state = jax.jit(begin)(_other_scene(config.init, stages[0].scene, start))
        devices = stages[0].devices
        step, state = int(state.step), replicate(state, devices)
        prior_prompt = [job.prior_prompt or job.prompt for job in jobs]

        @functools.lru_cache(maxsize=1)
        def frozen(stage: Stage):
            prior = prior_at(stage.image_size)
            # Before the parameters are asked for, and on one host: text encoders are large.
            embeddings = encode_prompts(stage, prior, prior_prompt)
            own = own_cameras(prior, prior_prompt) if stage.own_cameras else None
            return replicate((prior.params, embeddings, own, seed_keys), devices)

        bar = tqdm(total=total, initial=step, unit="step", disable=not (progress and is_primary()))
        with bar, watch_for_signals() as asked_to_stop:
            bar.set_description("compiling")  # until the first call has returned
            while step < total:
                began, stage = time.perf_counter(), next(t for t in stages if step < t.until)
                if step == stage.begin and step:
                    before = stages[stages.index(stage) - 1]
                    state = replicate(_entered(before, stage, state, seed_keys), devices)
                count = min(config.train.steps_per_call, stage.until - step)
                around = callbacks.around_call(step, count) if callbacks.around_call else None
                with around or contextlib.nullcontext():
                    state, metrics = _program(stage, count)(state, *frozen(stage))
                    metrics = {name: np.asarray(v) for name, v in jax.device_get(metrics).items()}
                runs.stop_if_not_finite(step, metrics)
                step += count
                seconds = time.perf_counter() - began
                rate = count * stage.views * devices * len(jobs) / seconds
                runs.log(step, metrics, rate, seconds / len(jobs))
                bar.set_description(refresh=False)
                bar.set_postfix(_summary(metrics, rate), refresh=False)
                bar.update(count)
                if callbacks.after_call:
                    call = callbacks.after_call
                    report = functools.partial(_report, call, step, metrics, jobs, stage.scene)
                    runs.each(report, state.params)
                while callbacks.paused and callbacks.paused() and not asked_to_stop():
                    time.sleep(_PAUSE)
                stop = asked_to_stop()
                if step % config.train.checkpoint_every == 0 or step == total or stop:
                    runs.save(state)
                due = step % config.train.preview_every == 0 or step == total
                if due and callbacks.preview:
                    draw = functools.partial(_preview, callbacks.preview, step, stage.scene)
                    runs.preview(step, draw, state.params)
                if stop == signal.SIGINT:
                    raise KeyboardInterrupt
                if stop:
                    name = signal.Signals(stop).name
                    raise Preempted(f"stopped by {name} at step {step}, which is saved")
    return jax.device_get(state)


def encode_prompts(
    stage: Stage, prior: FrozenModel, prompts: Sequence[str]
) -> dict[str, Conditioning]:
    """Return what the guidance asks for of some scenes, [scenes, rows, ...] by name, on all hosts.

    Each prompt is encoded once, by the first host.
    """
    asked = [stage.guidance.prompts(stage.view_prompts, prompt) for prompt in prompts]
    groups = {name: [own[name] for own in asked] for name in asked[0]}
    every = list(dict.fromkeys(p for group in groups.values() for rows in group for p in rows))
    return take_rows(tree_of_primary(lambda: prior.encode(every)), every, groups)


def _begin(stage: Stage, seed_keys: jax.Array, params: Any = None) -> TrainState:
    return initial_state(
        stage.scene,
        stage.optimizer,
        seed_keys,
        params,
        guidance=stage.guidance,
        prior=stage.prior,
    )


def _fresh(stage: Stage, seed_keys: jax.Array) -> TrainState:
    """Return a state of the shapes that a stage has."""
    return jax.device_get(jax.jit(functools.partial(_begin, stage))(seed_keys))


def _entered(before: Stage, stage: Stage, state: TrainState, seed_keys: jax.Array) -> TrainState:
    """Return the state with which a stage begins, from that with which the one before ended."""
    host = jax.device_get(state)
    return broadcast(jax.jit(functools.partial(enter_stage, before, stage))(host, seed_keys))


def _other_scene(workdir: str, scene: Scene, start: TrainState) -> Any:
    """Return the parameters of another run's scene, on all hosts."""
    found = on_primary(lambda: scene_to_start_from(workdir, scene))
    like = jax.tree.map(lambda leaf: np.asarray(leaf[0]), start.params)
    return broadcast(like if found is None else found)


@functools.lru_cache(maxsize=8)  # a run has up to four: two sizes, whose last calls are shorter
def _program(stage: Stage, count: int) -> Callable:
    return compile_steps(stage, count)


def _preview(function: Callable, step: int, scene: Scene, job: Job, params: Any):
    return function(job, step, scene, params)


def _report(
    function: Callable,
    step: int,
    metrics: dict[str, np.ndarray],
    jobs: Sequence[Job],
    scene: Scene,
    job: Job,
    params: Any,
) -> None:
    index = jobs.index(job)
    own = means({name: values[:, index] for name, values in metrics.items()})
    function(job, step, own, scene, params)


def _summary(metrics: dict[str, np.ndarray], rate: float) -> dict[str, str]:
    shown = {name: f"{np.mean(v):.3g}" for name, v in metrics.items() if name != "gradient_norm"}
    return shown | {"views/s": f"{rate:.1f}"}
