"""Lists of work whose length is known only when the program runs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NOBODY = -1  # the owner of a slot that none has reached
_CHUNK = 2**14  # candidates that are looked at together

Candidates = Callable[
    [Int[Array, "chunk"], Int[Array, "chunk"]],
    tuple[Int[Array, "chunk"], Float[Array, "chunk"]],
]


def nearest_owner(
    counts: Int[Array, "owners"], candidates: Candidates, slots: int
) -> Int[Array, "slots"]:
    """Return which owner has the nearest candidate for each slot; of equals the first.

    Memory is bounded whatever the counts are, and time grows with their sum.

    Args:
      counts: of the candidates of each owner.
      candidates: gives slots and depths, of the numbers of owners and of their candidates; a depth
        of infinity is no candidate.
      slots: how many there are.
    """
    ends = jnp.cumsum(counts)
    total = ends[-1]

    def look(carry):
        begin, depth, owner = carry
        item = begin + jnp.arange(_CHUNK)
        own = jnp.searchsorted(ends, item, side="right").astype(jnp.int32)
        own = jnp.minimum(own, len(counts) - 1)
        slot, found = candidates(own, item - (ends[own] - counts[own]))
        # One value, however often it is read: equal depths are compared to the last bit.
        found = jax.lax.optimization_barrier(jnp.where(item < total, found, jnp.inf))
        slot = jnp.where(found < jnp.inf, slot, slots)  # beyond the end: dropped
        least = depth.at[slot].min(found, mode="drop")
        owner = jnp.where(least < depth, slots_without_owner, owner)
        wins = found == least.at[slot].get(mode="fill", fill_value=-jnp.inf)
        owner = owner.at[jnp.where(wins, slot, slots)].min(own, mode="drop")
        return begin + _CHUNK, least, owner

    slots_without_owner = jnp.full(slots, len(counts), jnp.int32)
    start = jnp.zeros((), ends.dtype), jnp.full(slots, jnp.inf), slots_without_owner
    _, depth, owner = jax.lax.while_loop(lambda carry: carry[0] < total, look, start)
    return jnp.where(depth < jnp.inf, owner, NOBODY)
