"""Lists of work whose length is known only when the program runs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NOBODY = -1  # the owner of a slot that none has reached
_CHUNK = 2**14  # candidates that are looked at together
_ROW = 1024  # values whose sums are taken together

Candidates = Callable[
    [Int[Array, "chunk"], Int[Array, "chunk"]],
    tuple[Int[Array, "chunk"], Float[Array, "chunk"]],
]


def running_total(values: Int[Array, "n"]) -> Int[Array, "n"]:
    """Return the sums of each value and all before it, in rows and then over rows.

    The compiler for TPUs takes half a minute for one long `jnp.cumsum`, and a second for two.
    """
    rows = jnp.pad(values, (0, -len(values) % _ROW)).reshape(-1, _ROW)
    within = jnp.cumsum(rows, axis=1)
    before = jnp.cumsum(within[:, -1]) - within[:, -1]
    return (within + before[:, None]).reshape(-1)[: len(values)]


def select(
    chosen: Bool[Array, "*shape"], room: int
) -> tuple[Int[Array, "room"], Int[Array, "*shape"]]:
    """Return the first chosen ones, by their number in index order, and the place of each there.

    The size of `chosen` is the number where there are fewer, and `room` the place of all others.
    """
    flat = chosen.reshape(-1)
    place = running_total(flat.astype(jnp.int32)) - 1
    place = jnp.where(flat & (place < room), place, room)
    numbers = jnp.arange(len(flat), dtype=jnp.int32)
    index = jnp.full(room, len(flat), jnp.int32).at[place].set(numbers, mode="drop")
    return index, place.reshape(chosen.shape)


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
    ends = running_total(counts)
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
