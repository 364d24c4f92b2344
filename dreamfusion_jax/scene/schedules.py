"""Numbers that change while a scene is optimised."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Ramp:
    """From `start` to `end` over the first `steps` steps, then held.

    What has passed of the steps counts to the given power: above 1 the change comes late.
    """

    start: float
    end: float
    steps: int
    power: float = 1.0

    def __call__(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """The value at a step."""
        fraction = jnp.clip(step / max(self.steps, 1), 0.0, 1.0)
        return self.start + (self.end - self.start) * fraction**self.power
