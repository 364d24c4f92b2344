"""Numbers that change while a scene is optimized."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Ramp:
    """From `start` to `end` linearly over the first `steps` steps, then held."""

    start: float
    end: float
    steps: int

    def __call__(self, step: int | Int[Array, ""]) -> Float[Array, ""]:
        """Return the value at a step."""
        fraction = jnp.clip(step / max(self.steps, 1), 0.0, 1.0)
        return self.start + (self.end - self.start) * fraction
