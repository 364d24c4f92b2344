"""Evaluating only the samples that matter: a fixed number of them, whichever they are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

_HALVINGS = 24  # of the range in which the threshold is sought
_NOISE = 1e-4  # below it nothing is expected to be seen


def most_important(
    importance: Float[Array, "samples"], count: int, key: Key[Array, ""] | None
) -> tuple[Int[Array, "count"], Int[Array, "samples"]]:
    """Return which samples to evaluate, and where each of all finds its result.

    Args:
      importance: of each sample, in [0, 1].
      count: how many are evaluated, at most.
      key: chooses among those of no importance where there is room; None takes none of them.

    Returns:
      The indices of the chosen samples, in order, then zeros where there are fewer; and for each
      sample its place among them, -1 where it is not evaluated.
    """
    if key is not None:
        importance = importance + _NOISE * jax.random.uniform(key, importance.shape)
    # Halving the range of thresholds is cheaper than sorting, and maps over scenes.
    low, high = jnp.zeros(()), jnp.ones(()) * 2

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        fits = jnp.sum(importance > middle) <= count
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    fits = jnp.sum(importance > 0) <= count
    threshold = jnp.where(fits, 0.0, jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))[1])
    chosen = importance > threshold
    place = jnp.where(chosen, jnp.cumsum(chosen) - 1, -1)
    numbers = jnp.arange(len(importance))
    # What is not chosen is written beyond the end, and dropped.
    index = (
        jnp.zeros(count, jnp.int32).at[jnp.where(chosen, place, count)].set(numbers, mode="drop")
    )
    return index, place


def spread(values: Float[Array, "count *channels"], place: Int[Array, "samples"]) -> Array:
    """Return the result of every sample, 0 for those that were not evaluated."""
    found = values.at[jnp.maximum(place, 0)].get(mode="promise_in_bounds")
    there = (place >= 0).reshape(-1, *[1] * (values.ndim - 1))
    return jnp.where(there, found, 0.0)
