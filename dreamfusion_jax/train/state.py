"""What a run carries from step to step, of all scenes that are optimized together."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int, Key

from dreamfusion_jax.guidance.base import Guidance
from dreamfusion_jax.scene.occupancy import DensityGrid
from dreamfusion_jax.scene.render import Scene, init_params
from dreamfusion_jax.types import Array

# Folded into a seed where views fold in their numbers.
PARAMS_STREAM = 2**31 - 1
GRID_STREAM = 2**31 - 2
GUIDANCE_STREAM = 2**31 - 3


@flax.struct.dataclass
class TrainState:
    """Step counter, scene parameters, optimizer state, density grid. Keys and time are derived.

    `grid` is what the scene's sampler keeps of the field, None where it keeps nothing;
    `guidance_params` and `guidance_opt_state` what the guidance learns, None where nothing.

    Arrays have a leading axis of scenes, but for the integers that count steps: these are
    shared, so that what depends on them (`lax.cond`) is decided once and not per scene.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    grid: DensityGrid | None = None
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
        params = jax.vmap(lambda key: init_params(scene, key))(keys)
    else:
        params = jax.tree.map(lambda x: jnp.stack([x] * seed_keys.shape[0]), params)
    grid = jax.vmap(functools.partial(scene.sampler.initial_grid, scene.field))(params["field"])
    state = TrainState(jnp.zeros((), jnp.int32), params, _optimizer_state(optimizer, params), grid)
    if guidance is None or guidance.optimizer is None:
        return state
    keys = jax.vmap(jax.random.fold_in, (0, None))(seed_keys, GUIDANCE_STREAM)
    learnt = jax.vmap(lambda key: guidance.init(prior, key))(keys)
    return state.replace(
        guidance_params=learnt, guidance_opt_state=_optimizer_state(guidance.optimizer, learnt)
    )


def _optimizer_state(optimizer: optax.GradientTransformation, params: Any) -> Any:
    """The state of each scene's optimizer; counters are shared."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
    out_axes = _axes(jax.eval_shape(optimizer.init, one))
    return jax.vmap(optimizer.init, out_axes=out_axes)(params)


@jax.named_scope("optimizer")
def update_scenes(
    optimizer: optax.GradientTransformation, grads: Any, state: TrainState
) -> TrainState:
    """The state after a step of the optimizer on each scene by itself."""
    params, opt_state = _updated(optimizer, grads, state.opt_state, state.params)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state)


@jax.named_scope("guidance_optimizer")
def update_guidance(guidance: Guidance, grads: Any, state: TrainState) -> TrainState:
    """Return the state after the guidance has learnt from a step, of each scene by itself."""
    if guidance.optimizer is None:
        return state
    params, opt_state = _updated(
        guidance.optimizer, grads, state.guidance_opt_state, state.guidance_params
    )
    return state.replace(guidance_params=params, guidance_opt_state=opt_state)


def _updated(
    optimizer: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    axes = _axes(opt_state)
    update = jax.vmap(optimizer.update, in_axes=(0, axes, 0), out_axes=(0, axes))
    updates, opt_state = update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


@jax.named_scope("density_grid")
def refresh_grids(
    scene: Scene,
    state: TrainState,
    variance: Float[Array, ""],
    keys: Key[Array, "scenes"],
) -> TrainState:
    """The state with density grids that have looked at the fields again, where it is time to."""
    every = scene.sampler.refresh_every
    if not every:
        return state

    def look(grid, params, key):
        return scene.sampler.refresh(grid, scene.field, params["field"], variance, key)

    # The step is shared by all scenes: nothing is computed where it is not time.
    grid = jax.lax.cond(
        state.step % every == 0,
        lambda: jax.vmap(look)(state.grid, state.params, keys),
        lambda: state.grid,
    )
    return state.replace(grid=grid)


def take_scene(state: TrainState, index: int) -> TrainState:
    """The state of one scene, without the axis of scenes."""
    return jax.tree.map(lambda leaf: leaf if _is_counter(leaf) else leaf[index], state)


def stack_scenes(states: Sequence[TrainState]) -> TrainState:
    """The inverse of `take_scene`, for scenes at the same step."""
    return jax.tree.map(
        lambda *leaves: leaves[0] if _is_counter(leaves[0]) else np.stack(leaves), *states
    )


def _is_counter(leaf: Array | jax.ShapeDtypeStruct) -> bool:
    return leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)


def _axes(opt_state: Any) -> Any:
    """The axis of scenes of every array, None for counters."""
    return jax.tree.map(lambda leaf: None if _is_counter(leaf) else 0, opt_state)
