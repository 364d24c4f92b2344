"""Volume rendering: densities along a ray -> weights -> pixels (paper section 3.1, Eq. 5)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def rendering_weights(
    density: Float[Array, "*rays samples"], deltas: Float[Array, "*rays samples"]
) -> Float[Array, "*rays samples"]:
    """w_i = alpha_i prod_{j<i} (1 - alpha_j) with alpha_i = 1 - exp(-tau_i delta_i).

    Computed as differences of the transmittance, so that the weights and what is left
    at the end add up to 1 exactly.

    Args:
      density: tau_i >= 0 per unit length, front to back.
      deltas: delta_i >= 0 of the intervals.
    """
    optical_depth = running_sum(density * deltas)
    transmittance = jnp.exp(-optical_depth)
    before = jnp.concatenate(
        [jnp.ones_like(transmittance[..., :1]), transmittance[..., :-1]], axis=-1
    )
    return before - transmittance


def running_sum(values: Float[Array, "*rays samples"]) -> Float[Array, "*rays samples"]:
    """Return the sums of each value and all before it, as a matrix product.

    XLA's CPU backend computes `jnp.cumsum` of n values, and what goes into it, n^2 times.
    """
    triangle = jnp.triu(jnp.ones((values.shape[-1],) * 2, values.dtype))
    return jnp.matmul(values, triangle, precision=jax.lax.Precision.HIGHEST)


def composite(
    weights: Float[Array, "*rays samples"], values: Float[Array, "*rays samples channels"]
) -> Float[Array, "*rays channels"]:
    """sum_i w_i v_i."""
    return jnp.einsum("...s,...sc->...c", weights, values, precision=jax.lax.Precision.HIGHEST)
