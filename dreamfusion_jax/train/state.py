"""What a run carries from step to step, of all scenes that are optimised together."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Int, Key

from dreamfusion_jax.scene.render import Scene, init_params
from dreamfusion_jax.types import Array

PARAMS_STREAM = 2**31 - 1  # folded into a seed where views fold in their numbers


@flax.struct.dataclass
class TrainState:
    """Step counter, scene parameters and optimiser state. Keys and time are derived.

    Arrays have a leading axis of scenes, but for the integers that count steps: these are
    shared, so that what depends on them (`lax.cond`) is decided once and not per scene.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any


def initial_state(
    scene: Scene, optimizer: optax.GradientTransformation, seed_keys: Key[Array, "scenes"]
) -> TrainState:
    """The state before the first step."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(seed_keys, PARAMS_STREAM)
    params = jax.vmap(lambda key: init_params(scene, key))(keys)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
    out_axes = _axes(jax.eval_shape(optimizer.init, one))
    opt_state = jax.vmap(optimizer.init, out_axes=out_axes)(params)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


@jax.named_scope("optimizer")
def update_scenes(
    optimizer: optax.GradientTransformation, grads: Any, state: TrainState
) -> TrainState:
    """The state after a step of the optimiser on each scene by itself."""
    axes = _axes(state.opt_state)
    update = jax.vmap(optimizer.update, in_axes=(0, axes, 0), out_axes=(0, axes))
    updates, opt_state = update(grads, state.opt_state, state.params)
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state)


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
