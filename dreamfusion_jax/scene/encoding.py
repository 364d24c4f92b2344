"""Integrated positional encoding of isotropic Gaussians (mip-NeRF; paper section 3.2)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def integrated_encoding(
    mean: Float[Array, "*batch d"], variance: float | Float[Array, ""], num_frequencies: int
) -> Float[Array, "*batch features"]:
    """E[sin(2^l x)], E[cos(2^l x)] of x ~ N(mean, variance I) for l = 0 ... L - 1.

    E[sin(2^l x)] = sin(2^l mean) exp(-4^l variance / 2), likewise for cos. Higher
    frequencies come from the double-angle formulae: one sin and cos per coordinate
    instead of L, which is what counts on a CPU.

    Args:
      mean: positions.
      variance: the covariance is `variance` I; 0 gives the plain encoding.
      num_frequencies: L; there are 2 d L features.
    """
    sin, cos = jnp.sin(mean), jnp.cos(mean)
    features = []
    for level in range(num_frequencies):
        damping = jnp.exp(-0.5 * 4.0**level * jnp.asarray(variance))
        features += [damping * sin, damping * cos]
        sin, cos = 2 * sin * cos, 1 - 2 * sin * sin
    return jnp.concatenate(features, axis=-1)
