"""A smooth surface over a control mesh: Loop subdivision, and where it ends."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Array, Float, Int
from scipy import sparse

from dreamfusion_jax.scene.fields.interpolation import weighted_rows
from dreamfusion_jax.types import Array as AnyArray


class Subdivided(NamedTuple):
    """The limit of Loop subdivision, at the vertices of a mesh that was subdivided some times.

    A vertex is the sum of `weights` times the control vertices `terms`, of which some may count 0.
    """

    terms: Int[np.ndarray, "terms vertices"]
    weights: Float[np.ndarray, "terms vertices"]
    faces: Int[np.ndarray, "faces 3"]

    def of(self, control: Float[AnyArray, "control 3"]) -> Float[Array, "vertices 3"]:
        """Return the vertices over a control mesh."""
        return weighted_rows(*(jnp.asarray(x) for x in (control, self.terms, self.weights)))


class Sphere(NamedTuple):
    """A control mesh of the unit sphere, and the surface over it."""

    control: Float[np.ndarray, "control 3"]
    surface: Subdivided


@functools.lru_cache(maxsize=4)
def sphere(halvings: int, subdivisions: int) -> Sphere:
    """Return an icosahedron whose edges are halved, on the unit sphere, and subdivided.

    Args:
      halvings: of the icosahedron's edges: 20 * 4^halvings faces of the control mesh.
      subdivisions: of the control mesh before its vertices go to their limit.
    """
    mesh = trimesh.creation.icosphere(halvings, 1.0)
    control = np.asarray(mesh.vertices, np.float32)
    return Sphere(control, loop_limit(np.asarray(mesh.faces), len(control), subdivisions))


def loop_limit(faces: Int[np.ndarray, "faces 3"], count: int, subdivisions: int = 0) -> Subdivided:
    """Return where Loop subdivision ends (Loop 1987), of a closed mesh.

    Args:
      faces: of the control mesh.
      count: of its vertices.
      subdivisions: how often the mesh is subdivided first.
    """
    matrix = sparse.identity(count, format="csr")
    for _ in range(subdivisions):
        step, faces, count = _subdivision(faces, count)
        matrix = step @ matrix
    matrix = (_limit(faces, count) @ matrix).tocsr()
    return Subdivided(*_padded(matrix), faces.astype(np.int32))


def _beta(valence: Float[np.ndarray, "vertices"]) -> Float[np.ndarray, "vertices"]:
    """Return the weight of each neighbor when a vertex is subdivided (Loop 1987)."""
    return (5 / 8 - (3 / 8 + np.cos(2 * np.pi / valence) / 4) ** 2) / valence


def _neighbors(faces: Int[np.ndarray, "faces 3"], count: int) -> sparse.csr_matrix:
    ends = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    ones = np.ones(len(ends))
    linked = sparse.coo_matrix((ones, ends.T), (count, count)).tocsr()
    return ((linked + linked.T) > 0).astype(float)


def _limit(faces: Int[np.ndarray, "faces 3"], count: int) -> sparse.csr_matrix:
    linked = _neighbors(faces, count)
    valence = np.asarray(linked.sum(1)).ravel()
    share = 1 / (3 / (8 * _beta(valence)) + valence)
    return sparse.diags(1 - valence * share) + sparse.diags(share) @ linked


def _subdivision(
    faces: Int[np.ndarray, "faces 3"], count: int
) -> tuple[sparse.csr_matrix, Int[np.ndarray, "more 3"], int]:
    """Return the matrix of one subdivision, and the mesh that it makes."""
    linked = _neighbors(faces, count)
    valence = np.asarray(linked.sum(1)).ravel()
    beta = _beta(valence)
    old = sparse.diags(1 - valence * beta) + sparse.diags(beta) @ linked
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    edges, number = np.unique(sides, axis=0, return_inverse=True)
    number = number.reshape(-1, 3)
    opposite = faces[:, [2, 0, 1]]
    rows = np.r_[np.repeat(np.arange(len(edges)), 2), number.ravel()]
    columns = np.r_[edges.ravel(), opposite.ravel()]
    values = np.r_[np.full(edges.size, 3 / 8), np.full(opposite.size, 1 / 8)]
    new = sparse.coo_matrix((values, (rows, columns)), (len(edges), count))
    a, b, c = faces.T
    ab, bc, ca = (count + number).T
    parts: Sequence[tuple] = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    smaller = np.concatenate([np.stack(part, axis=1) for part in parts])
    return sparse.vstack([old, new]).tocsr(), smaller, count + len(edges)


def _padded(
    matrix: sparse.csr_matrix,
) -> tuple[Int[np.ndarray, "terms rows"], Float[np.ndarray, "terms rows"]]:
    """Return the columns and values of a sparse matrix's rows, as many of each."""
    counts = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    term = np.arange(len(row)) - np.repeat(matrix.indptr[:-1], counts)
    index = np.zeros((counts.max(), len(counts)), np.int32)
    weights = np.zeros(index.shape, np.float32)
    index[term, row], weights[term, row] = matrix.indices, matrix.data
    return index, weights
