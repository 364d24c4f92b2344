"""What a run carries from step to step, of all scenes that are optimized together."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Int, Key

from dreamfusion_jax.guidance.base import Guidance
from dreamfusion_jax.scene.base import Scene
from dreamfusion_jax.train.stage import Stage
from dreamfusion_jax.types import Array

# Folded into a seed where views fold in their numbers.
PARAMS_STREAM = 2**31 - 1
REFRESH_STREAM = 2**31 - 2
GUIDANCE_STREAM = 2**31 - 3
CONVERT_STREAM = 2**31 - 4


@flax.struct.dataclass
class TrainState:
    """Step counter, scene parameters, optimizer state. Keys and time are derived.

    `scene_state` is what the scene keeps beside its parameters, None where it keeps nothing;
    `guidance_params` and `guidance_opt_state` what the guidance learns, None where nothing.

    Arrays have a leading axis of scenes, but for the integers that count steps: these are
    shared, so that what depends on them (`lax.cond`) is decided once and not per scene.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    scene_state: Any = None
    guidance_params: Any = None
    guidance_opt_state: Any = None


def initial_state(
    scene: Scene,
    optimizer: optax.GradientTransformation,
    seed_keys: Key[Array, "scenes"],
    params: Any = None,
    *,
    guidance: Guidance | None = None,
    prior: Any = None,
) -> TrainState:
    """Return the state before the first step: of fresh parameters, or of those of one scene.

    Args:
      scene: what is optimized.
      optimizer: of its parameters.
      seed_keys: of the scenes.
      params: of one scene, that all start from.
      guidance: may learn parameters of its own; None learns nothing.
      prior: the frozen model without its parameters, for the guidance.
    """
    if params is None:
        keys = jax.vmap(jax.random.fold_in, (0, None))(seed_keys, PARAMS_STREAM)
        params = jax.vmap(scene.init)(keys)
    else:
        params = jax.tree.map(lambda x: jnp.stack([x] * seed_keys.shape[0]), params)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=_optimizer_state(optimizer, params),
        scene_state=jax.vmap(scene.initial_state)(params),
    )
    if guidance is None or guidance.optimizer is None:
        return state
    keys = jax.vmap(jax.random.fold_in, (0, None))(seed_keys, GUIDANCE_STREAM)
    learnt = jax.vmap(lambda key: guidance.init(prior, key))(keys)
    return dataclasses.replace(
        state,
        guidance_params=learnt,
        guidance_opt_state=_optimizer_state(guidance.optimizer, learnt),
    )


def enter_stage(
    before: Stage, stage: Stage, state: TrainState, seed_keys: Key[Array, "scenes"]
) -> TrainState:
    """Return the state with which a stage begins, from that with which the one before has ended.

    Parameters are converted where it says so, and what belongs to them begins anew.
    """
    params, kept = state.params, state
    if stage.convert is not None:
        keys = jax.vmap(jax.random.fold_in, (0, None))(seed_keys, CONVERT_STREAM)

        def convert(params, key):
            key = jax.random.fold_in(key, state.step)
            return stage.convert(before.scene, params, stage.scene, state.step, key)

        params = jax.vmap(convert)(params, keys)
        kept = dataclasses.replace(kept, params=params)
    if before.scene != stage.scene:
        kept = dataclasses.replace(kept, scene_state=jax.vmap(stage.scene.initial_state)(params))
    if stage.restarts:
        kept = dataclasses.replace(kept, opt_state=_optimizer_state(stage.optimizer, params))
    if before.guidance != stage.guidance:
        fresh = initial_state(
            stage.scene,
            stage.optimizer,
            seed_keys,
            guidance=stage.guidance,
            prior=stage.prior,
        )
        kept = dataclasses.replace(
            kept, guidance_params=fresh.guidance_params, guidance_opt_state=fresh.guidance_opt_state
        )
    return kept


def _optimizer_state(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """Return the state of each scene's optimizer; counters are shared."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
    out_axes = _axes(jax.eval_shape(optimizer.init, one))
    return jax.vmap(optimizer.init, out_axes=out_axes)(params)


@jax.named_scope("optimizer")
def update_scenes(
    optimizer: optax.GradientTransformation, grads: Any, state: TrainState
) -> TrainState:
    """Return the state after a step of the optimizer on each scene by itself."""
    params, opt_state = _updated(optimizer, grads, state.opt_state, state.params)
    return dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state)


@jax.named_scope("guidance_optimizer")
def update_guidance(guidance: Guidance, grads: Any, state: TrainState) -> TrainState:
    """Return the state after the guidance has learnt from a step, of each scene by itself."""
    if guidance.optimizer is None:
        return state
    params, opt_state = _updated(
        guidance.optimizer, grads, state.guidance_opt_state, state.guidance_params
    )
    return dataclasses.replace(state, guidance_params=params, guidance_opt_state=opt_state)


def _updated(
    optimizer: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    axes = _axes(opt_state)
    update = jax.vmap(optimizer.update, in_axes=(0, axes, 0), out_axes=(0, axes))
    updates, opt_state = update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


@jax.named_scope("refresh_scenes")
def refresh_scenes(scene: Scene, state: TrainState, keys: Key[Array, "scenes"]) -> TrainState:
    """Return the state whose scenes have looked at their parameters again, where it is time to."""
    if not scene.refresh_every:
        return state

    def look(kept, params, key):
        return scene.refresh(kept, params, state.step, key)

    # The step is shared by all scenes: nothing is computed where it is not time.
    kept = jax.lax.cond(
        state.step % scene.refresh_every == 0,
        lambda: jax.vmap(look)(state.scene_state, state.params, keys),
        lambda: state.scene_state,
    )
    return dataclasses.replace(state, scene_state=kept)


def take_scene(state: TrainState, index: int) -> TrainState:
    """Return the state of one scene, without the axis of scenes."""
    return jax.tree.map(lambda leaf: leaf if _is_counter(leaf) else leaf[index], state)


def stack_scenes(states: Sequence[TrainState]) -> TrainState:
    """Return the inverse of `take_scene`, for scenes at the same step."""
    return jax.tree.map(
        lambda *leaves: leaves[0] if _is_counter(leaves[0]) else np.stack(leaves), *states
    )


def _is_counter(leaf: Array | jax.ShapeDtypeStruct) -> bool:
    return leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)


def _axes(opt_state: Any) -> Any:
    """Return the axis of scenes of every array, None for counters."""
    return jax.tree.map(lambda leaf: None if _is_counter(leaf) else 0, opt_state)
