"""What the training of networks on pictures has in common: the prior's, the evaluator's."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jaxtyping import Array, Int
from tqdm.auto import tqdm

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.checkpoint import FOLDER, Checkpoints
from dreamfusion_jax.train.metrics import MetricsLog, first_non_finite, means
from dreamfusion_jax.train.workdir import lock_workdir

MODEL_FOLDER = "model"


class TrainingState(NamedTuple):
    """Everything a run needs to go on; `ema` is the moving average that is shipped."""

    step: Int[Array, ""]
    params: Any
    ema: Any
    opt_state: optax.OptState


def initial_state(params: Any, optimizer: optax.GradientTransformation) -> TrainingState:
    """Return the state before the first step."""
    state = TrainingState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))
    # Copied, so that params and ema are separate buffers and can be donated.
    return jax.tree.map(jnp.copy, state)


def with_params(state: TrainingState, params: Any) -> TrainingState:
    """Return the state with other weights, which its average starts from too."""
    return state._replace(params=params, ema=jax.tree.map(jnp.copy, params))


def updated(
    state: TrainingState, grads: Any, optimizer: optax.GradientTransformation, ema: float
) -> TrainingState:
    """Return the state after one step of the optimizer; `ema` is the average's decay."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # Early averages forget the random start quickly.
    decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
    average = optax.incremental_update(params, state.ema, 1 - decay)
    return TrainingState(state.step + 1, params, average, opt_state)


def fit(
    state: TrainingState,
    run: Callable[[TrainingState, Any], tuple[TrainingState, dict[str, Array]]],
    data: Any,
    workdir: Path,
    train: ml_collections.ConfigDict,
    *,
    init: Callable[[TrainingState], TrainingState],
    save: Callable[[TrainingState], None],
    after_call: Callable[[int, TrainingState], None] = lambda step, state: None,
    around_call: Callable[[int, int], contextlib.AbstractContextManager] | None = None,
    progress: bool = True,
) -> None:
    """Train from the newest checkpoint in `workdir`, or from `state`, to the last step.

    Writes checkpoints/ and metrics.jsonl.

    Args:
      state: before the first step.
      run: what `compile_steps` returns.
      data: its second argument.
      workdir: folder of the run.
      train: steps, batch, steps_per_call, checkpoint_every.
      init: changes the state of a run that has no checkpoint yet.
      save: called at each checkpoint and at the end.
      after_call: called after each compiled call.
      around_call: the context, of the first step and the number of steps, of each compiled call.
      progress: whether to show a progress bar.

    Raises:
      UserError: a metric is not finite.
    """
    with lock_workdir(workdir), contextlib.closing(Checkpoints(workdir / FOLDER)) as checkpoints:
        if checkpoints.latest_step() is None:
            state = init(state)
        else:
            state = state._replace(**checkpoints.restore(state._asdict()))
        step, images = int(state.step), train.steps_per_call * train.batch
        log = MetricsLog(workdir, resume_step=step)
        total = train.steps * train.batch
        bar = tqdm(total=total, initial=step * train.batch, unit="img", disable=not progress)
        with bar, contextlib.closing(log):
            while step < train.steps:
                began = time.perf_counter()
                around = around_call(step, train.steps_per_call) if around_call else None
                with around or contextlib.nullcontext():
                    state, metrics = run(state, data)
                    logged = {name: np.asarray(values) for name, values in metrics.items()}
                stop_if_not_finite(step, logged)
                step += train.steps_per_call
                rate = images / (time.perf_counter() - began)
                log.write(step, means(logged) | {"images_per_second": round(rate, 2)})
                shown = {name: f"{value:.3f}" for name, value in means(logged).items()}
                bar.set_postfix(step=step, **shown, refresh=False)
                bar.update(images)
                if step % train.checkpoint_every == 0 or step == train.steps:
                    save(state)  # first: a run whose checkpoint is the last one has its model
                    checkpoints.save(step, state._asdict())
                after_call(step, state)


def compile_steps(one_step: Callable, count: int) -> Callable:
    """Compile (state, data) -> (state, metrics [count]), `count` steps; the state is donated.

    One compiled scan, except on the CPU: inside a loop XLA computes the gradients of
    convolutions there ten times slower (measured with jax 0.10.2), so the host loops instead.
    """
    if jax.default_backend() != "cpu":

        def scan(state, data):
            return jax.lax.scan(lambda s, _: one_step(s, data), state, None, length=count)

        return jax.jit(scan, donate_argnums=0)
    step = jax.jit(one_step, donate_argnums=0)

    def loop(state, data):
        metrics = []
        for _ in range(count):
            state, values = step(state, data)
            metrics.append(values)
        return state, jax.tree.map(lambda *values: np.stack(values), *metrics)

    return loop


def make_optimizer(config: ml_collections.ConfigDict, steps: int) -> optax.GradientTransformation:
    """Return AdamW with warm-up, cosine decay and a clipped gradient norm."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, steps, config.final_learning_rate
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(rate, b1=0.9, b2=config.beta2, weight_decay=config.weight_decay),
    )


def check_training(config: ml_collections.ConfigDict) -> None:
    """Refuse counts below 1, intervals that are not whole numbers of compiled calls, and a warm-up
    that does not end."""
    train = config.train
    counts = {f"train.{name}": train[name] for name in ("steps_per_call", "batch")}
    counts |= {"sheet.every": config.sheet.every} if "sheet" in config else {}
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    for name in ("steps", "checkpoint_every"):
        if train[name] < 1 or train[name] % train.steps_per_call:
            raise UserError(
                f"train.{name}={train[name]} must be a positive multiple of "
                f"train.steps_per_call={train.steps_per_call}"
            )
    if not 0 <= config.optim.warmup_steps < train.steps:
        raise UserError(
            f"optim.warmup_steps={config.optim.warmup_steps} must lie below train.steps="
            f"{train.steps}, and not below 0"
        )


def stop_if_not_finite(step: int, metrics: dict[str, np.ndarray]) -> None:
    """Raise UserError where a loss or gradient norm is NaN or infinite."""
    found = first_non_finite(metrics)
    if found is not None:
        raise UserError(
            f"the {found[1]} is not finite at step {step + found[0] + 1}; the last checkpoint is "
            "kept: lower optim.learning_rate and start in a new workdir"
        )
