"""Edges of a mesh of fixed faces, and which faces meet there."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dreamfusion_jax.types import Array, SurfaceMesh


def surface_mesh(
    vertices: Float[Array, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> SurfaceMesh:
    """Return a mesh with its edges, see `edges_of`."""
    arrays = (vertices, np.asarray(faces, np.int32), *edges_of(faces))
    return SurfaceMesh(*(jnp.asarray(x) for x in arrays))


def edges_of(
    faces: Int[np.ndarray, "faces 3"],
) -> tuple[Int[np.ndarray, "edges 2"], Int[np.ndarray, "edges 2"]]:
    """Return the edges of faces, and the two faces at each, -1 where there is only one.

    Three or more faces at an edge are taken two by two.
    """
    ends = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    owner = np.repeat(np.arange(len(faces), dtype=np.int32), 3)
    order = np.lexsort(ends.T[::-1])
    ends, owner = ends[order], owner[order]
    is_new = np.r_[True, (ends[1:] != ends[:-1]).any(1)]
    # A side's number among those of its edge: even ones begin a pair, odd ones end it.
    start = np.maximum.accumulate(np.where(is_new, np.arange(len(ends)), 0))
    number = np.arange(len(ends)) - start
    begins = np.flatnonzero(number % 2 == 0)
    partner = np.minimum(begins + 1, len(ends) - 1)
    paired = (partner > begins) & (number[partner] % 2 == 1)
    second = np.where(paired, owner[partner], -1).astype(np.int32)
    return ends[begins].astype(np.int32), np.stack([owner[begins], second], axis=1)
