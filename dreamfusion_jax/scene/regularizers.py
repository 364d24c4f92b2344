"""Regularizers of the geometry and their schedules (paper appendix A.2)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dreamfusion_jax.schedules import Ramp


@dataclasses.dataclass(frozen=True)
class Transmittance:
    """-weight min(tau, mean transmittance of a view), Dream Fields' Eq. 8 (section 4.5).

    The target opacity 1 - tau goes exponentially from 1 - start to 1 - end in `steps` steps.
    """

    weight: float
    start: float
    end: float
    steps: int

    def __call__(
        self, step: Int[Array, ""], opacity: Float[Array, "*views h w"]
    ) -> Float[Array, ""]:
        """The penalty at a step, the mean over the views."""
        part = jnp.clip(step / max(self.steps, 1), 0.0, 1.0)
        target = (1 - self.start) * ((1 - self.end) / (1 - self.start)) ** part
        transmittance = 1 - jnp.mean(opacity, axis=(-2, -1))
        return -self.weight * jnp.mean(jnp.minimum(1 - target, transmittance))


@dataclasses.dataclass(frozen=True)
class Regularizers:
    """Weights of the penalties at a step; the penalties are averaged over rays."""

    orientation: Ramp
    opacity: Ramp
    entropy: Ramp
    transmittance: Transmittance


def orientation_penalty(
    weights: Float[Array, "*rays samples"],
    normals: Float[Array, "*rays samples 3"],
    directions: Float[Array, "*rays 3"],
) -> Float[Array, "*rays"]:
    """sum_i stop_gradient(w_i) max(0, n_i . v)^2: normals must not face away (Ref-NeRF Eq. 11)."""
    facing_away = jnp.maximum(jnp.einsum("...sc,...c->...s", normals, directions), 0.0)
    return jnp.sum(jax.lax.stop_gradient(weights) * facing_away**2, axis=-1)


def opacity_penalty(opacity: Float[Array, "*rays"]) -> Float[Array, "*rays"]:
    """sqrt((sum_i w_i)^2 + 0.01): empties rays that see no object."""
    return jnp.sqrt(opacity**2 + 0.01)


def entropy_penalty(opacity: Float[Array, "*rays"]) -> Float[Array, "*rays"]:
    """-o log o - (1 - o) log(1 - o): rays see an object or they do not (not in the paper).

    Its slope grows as the opacity falls, so it also clears the thin haze that the
    opacity penalty leaves.
    """
    o = jnp.clip(opacity, 1e-4, 1 - 1e-4)
    return -o * jnp.log(o) - (1 - o) * jnp.log1p(-o)
