"""What a run carries from step to step."""

from typing import Any

import flax.struct
import jax.numpy as jnp
import optax
from jaxtyping import Int

from dreamfusion_jax.types import Array


@flax.struct.dataclass
class TrainState:
    """Step counter, scene parameters and optimiser state. Keys and time are derived."""

    step: Int[Array, ""]
    params: Any
    opt_state: Any


def initial_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params)
    )
