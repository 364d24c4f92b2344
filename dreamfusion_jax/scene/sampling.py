"""Samples along rays: stratified coarse ones, and fine ones placed by coarse weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dreamfusion_jax.distributions import Uniform
from dreamfusion_jax.scene.volume import running_sum
from dreamfusion_jax.types import Rays


def uniform_edges(rays: Rays, intervals: int) -> Float[Array, "*rays t_vals"]:
    """`intervals` + 1 evenly spaced distances from near to far."""
    fractions = jnp.linspace(0.0, 1.0, intervals + 1)
    return rays.near[..., None] + (rays.far - rays.near)[..., None] * fractions


def stratified_points(
    t_vals: Float[Array, "*rays t_vals"], key: PRNGKeyArray | None
) -> Float[Array, "*rays samples"]:
    """Return one distance drawn uniformly in each interval; the midpoints where key is None."""
    lower, upper = t_vals[..., :-1], t_vals[..., 1:]
    if key is None:
        return 0.5 * (lower + upper)
    fraction = Uniform(0.0, 1.0).sample(seed=key, sample_shape=lower.shape)
    return lower + (upper - lower) * fraction


def fine_edges(
    t_vals: Float[Array, "*rays t_vals"],
    weights: Float[Array, "*rays samples"],
    key: PRNGKeyArray | None,
    *,
    intervals: int,
    padding: float = 0.01,
) -> Float[Array, "*rays fine_edges"]:
    """Return edges of `intervals` intervals, dense where the coarse weights are large.

    The weights' square roots become a piecewise-constant density over the coarse
    intervals, widened by its neighbors' maxima and padded (mip-NeRF Eq. 18), so
    that nothing is missed for good; its quantiles are the new t_vals. (The square root
    leaves intervals for what is half transparent: with few intervals the image is closer
    to a dense one than with the weights themselves.) The first and the last edge stay
    those of the ray. With a key the inner quantiles are jittered within their strata.
    """
    t_vals, weights = jax.lax.stop_gradient((t_vals, weights))
    histogram = blur_pool(jnp.sqrt(weights)) + padding / weights.shape[-1]
    cdf = running_sum(histogram)
    cdf = jnp.concatenate([jnp.zeros_like(cdf[..., :1]), cdf], axis=-1) / cdf[..., -1:]
    quantiles = jnp.linspace(0.0, 1.0, intervals + 1)[1:-1]
    quantiles = jnp.broadcast_to(quantiles, (*weights.shape[:-1], intervals - 1))
    if key is not None:
        jitter = Uniform(-0.5, 0.5).sample(seed=key, sample_shape=quantiles.shape)
        quantiles = quantiles + jitter / intervals
    inner = _interpolate_sorted(quantiles, cdf, t_vals)
    return jnp.concatenate([t_vals[..., :1], inner, t_vals[..., -1:]], axis=-1)


def blur_pool(weights: Float[Array, "*rays samples"]) -> Float[Array, "*rays samples"]:
    """Widen weights by their neighbors' maxima (mip-NeRF Eq. 18)."""
    padded = jnp.concatenate([weights[..., :1], weights, weights[..., -1:]], axis=-1)
    pairwise_max = jnp.maximum(padded[..., :-1], padded[..., 1:])
    return 0.5 * (pairwise_max[..., :-1] + pairwise_max[..., 1:])


def _interpolate_sorted(
    x: Float[Array, "*rays queries"],
    xp: Float[Array, "*rays t_vals"],
    fp: Float[Array, "*rays t_vals"],
) -> Float[Array, "*rays queries"]:
    """Interpolate the increasing points (xp, fp) linearly at x, batched over rays."""
    # Comparing all pairs beats a binary search at these sizes, on every backend.
    below = xp[..., None, :] <= x[..., :, None]
    left = jnp.sum(below, axis=-1) - 1
    left = jnp.clip(left, 0, xp.shape[-1] - 2)
    x0, x1 = (jnp.take_along_axis(xp, left + i, axis=-1) for i in (0, 1))
    f0, f1 = (jnp.take_along_axis(fp, left + i, axis=-1) for i in (0, 1))
    return f0 + (f1 - f0) * jnp.clip((x - x0) / jnp.maximum(x1 - x0, 1e-12), 0.0, 1.0)
