"""From signed distances on a grid to a closed mesh: dual marching cubes, differentiable.

A cell that the surface passes through has a vertex for each piece of the surface in it (Nielson
2004), the mean of where that piece crosses the cell's edges; an edge of the grid that the surface
crosses makes a quad of the four cells around it. Crossings are linear in the distances, and the
corners of the grid may move (FlexiCubes, Shen et al. 2023, of whose weights only these are used):
so the surface has gradients to both. All sizes are static: what is used of them is counted.

Tables are made here from two rules. Pieces of the surface are loops of segments across the faces of
a cell; and where a face has two segments, each cuts off a corner that is inside. Both cells at a
face see the same segments, so that the mesh is closed whatever the signs are.
"""

import functools
import itertools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.scene.fields.interpolation import weighted_rows
from dreamfusion_jax.scene.mesh.work_list import running_total, select
from dreamfusion_jax.types import SurfaceMesh

_PIECES = 4  # of the surface in one cell, at most
_LONGER = 1 + 1e-4
_OUTSIDE = 1e-3  # the least distance at the border of the grid: the surface ends within it

# Corners of a cell, x changing slowest, and its edges: pairs of corners, four along each axis.
_CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))
_EDGES = np.array(
    [(low, low + 4 // 2**axis) for axis in range(3) for low in range(8) if _CORNERS[low][axis] == 0]
)


@flax.struct.dataclass
class Used:
    """How many vertices and quads a surface takes: more than there is room for are left out."""

    vertices: Int[Array, "*scenes"]
    quads: Int[Array, "*scenes"]


class _Tables(NamedTuple):
    """What follows from which corners of a cell are inside, bit i of a number below 256.

    `piece` is the piece of the surface that crosses an edge, -1 if none does, and `across` the edge
    at the other end of the segment on a face; faces are numbered 2 axis + side.
    """

    piece: Int[np.ndarray, "256 12"]
    across: Int[np.ndarray, "256 12 6"]


@functools.cache
def _tables() -> _Tables:
    piece = np.full((256, 12), -1, np.int32)
    across = np.full((256, 12, 6), -1, np.int32)
    for mask in range(256):
        inside = [bool(mask >> corner & 1) for corner in range(8)]
        links = list(_segments(inside))
        for first, second, face in links:
            across[mask, first, face], across[mask, second, face] = second, first
        crossing = sorted({edge for first, second, _ in links for edge in (first, second)})
        label = {edge: edge for edge in crossing}
        for _ in crossing:  # the least number goes round each loop
            for first, second, _face in links:
                label[first] = label[second] = min(label[first], label[second])
        order = sorted(set(label.values()))
        for edge in crossing:
            piece[mask, edge] = order.index(label[edge])
    return _Tables(piece, across)


def _segments(inside: list[bool]):
    """Yield the segments on the faces of a cell: two edges and the face."""
    number = {frozenset(map(int, pair)): i for i, pair in enumerate(_EDGES)}
    for axis, side in itertools.product(range(3), (0, 1)):
        u, v = (a for a in range(3) if a != axis)
        ring = []
        for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
            place = np.zeros(3, int)
            place[[axis, u, v]] = side, a, b
            ring.append(int(place @ (4, 2, 1)))
        edges = [number[frozenset((ring[k], ring[(k + 1) % 4]))] for k in range(4)]
        crossed = [k for k in range(4) if inside[ring[k]] != inside[ring[(k + 1) % 4]]]
        face = 2 * axis + side
        if len(crossed) == 2:
            yield edges[crossed[0]], edges[crossed[1]], face
        elif len(crossed) == 4:
            for k in range(4):
                if inside[ring[k]]:
                    yield edges[k - 1], edges[k], face


@functools.cache
def _around() -> tuple[Int[np.ndarray, "3 4 3"], Int[np.ndarray, "3 4"], Int[np.ndarray, "3 4"]]:
    """Return, for an edge along each axis, the cells around it, counterclockwise seen from its end.

    They are offsets from the cell above its lower corner; then the edge's number in each of them;
    and the face of each at which the next one begins.
    """
    number = {tuple(map(int, pair)): i for i, pair in enumerate(_EDGES)}
    cells, local, faces = np.zeros((3, 4, 3), int), np.zeros((3, 4), int), np.zeros((3, 4), int)
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        ring = ((0, 0), (-1, 0), (-1, -1), (0, -1))
        for k, (a, b) in enumerate(ring):
            cells[axis, k, [u, v]] = a, b
            corner = -cells[axis, k]  # of the cell, where the edge begins
            low = int(corner @ (4, 2, 1))
            local[axis, k] = number[low, low + 4 // 2**axis]
            step = np.subtract(ring[(k + 1) % 4], (a, b))
            way = u if step[0] else v
            faces[axis, k] = 2 * way + int(step.sum() > 0)
    return cells, local, faces


def dual_marching_cubes(
    distance: Float[Array, "n n n"],
    corners: Float[Array, "n n n 3"],
    room: int,
) -> tuple[SurfaceMesh, Used]:
    """Return the surface where the distance is 0, and how much of the room it has taken.

    Args:
      distance: at the corners of the grid's cells, negative inside. At the border it counts as
        outside.
      corners: the places of them.
      room: for so many vertices and cells, and for as many quads, two triangles each.
    """
    n = len(distance)
    inside, distance = _closed_in(distance)
    mask = _masks(inside)
    tables = _tables()
    active = (mask > 0) & (mask < 255)
    index, place = select(active, room)
    cells = jnp.stack(jnp.unravel_index(jnp.minimum(index, active.size - 1), mask.shape), -1)
    own_mask = mask.reshape(-1).at[index].get(mode="fill", fill_value=0)
    first_vertex, cell, piece = _pieces(own_mask, room)
    vertices = _vertices(cells[cell], own_mask[cell], piece, distance, corners)

    crossed = _crossed_edges(inside)
    edge, number_of = select(crossed, room)
    number_of = number_of.reshape(-1)
    exists = edge < crossed.size
    edge = jnp.where(exists, edge, 0)
    axis, *begin = jnp.unravel_index(edge, crossed.shape)
    low = jnp.stack(begin, -1)
    offsets, local, faces_to_next = (jnp.asarray(x)[axis] for x in _around())
    around = jnp.clip(low[:, None] + offsets, 0, n - 2)
    flat = (around[..., 0] * (n - 1) + around[..., 1]) * (n - 1) + around[..., 2]
    masks = mask.reshape(-1)[flat]
    first = first_vertex.at[place.reshape(-1)[flat]].get(mode="fill", fill_value=room)
    quads = first + jnp.asarray(tables.piece)[masks, local]
    # Counterclockwise seen from outside: from the edge's end, if it begins inside.
    begins_inside = inside.reshape(-1)[edge % n**3]
    exists &= jnp.all(quads < room, axis=-1)
    partner = _partners(jnp.asarray(tables.across)[masks, local, faces_to_next], around, n)
    mesh = _with_edges(vertices, quads, begins_inside, exists, number_of[partner])
    count = jnp.sum(jnp.asarray(tables.piece.max(1) + 1)[mask])
    return mesh, Used(count, jnp.sum(crossed))


def _closed_in(
    distance: Float[Array, "n n n"],
) -> tuple[Bool[Array, "n n n"], Float[Array, "n n n"]]:
    """Return what is inside, and the distances, with the border outside."""
    n = len(distance)
    edge = (jnp.arange(n) == 0) | (jnp.arange(n) == n - 1)
    border = edge[:, None, None] | edge[:, None] | edge
    distance = jnp.where(border, jnp.maximum(distance, _OUTSIDE), distance)
    return distance < 0, distance


def _masks(inside: Bool[Array, "n n n"]) -> Int[Array, "m m m"]:
    """Return, of each cell, the number whose bits say which of its corners are inside."""
    m = len(inside) - 1
    bits, masks = inside.astype(jnp.int32), jnp.zeros((m, m, m), jnp.int32)
    for i, (x, y, z) in enumerate(_CORNERS):
        masks += bits[x : x + m, y : y + m, z : z + m] << i
    return masks


def _crossed_edges(inside: Bool[Array, "n n n"]) -> Bool[Array, "3 n n n"]:
    """Return which edges of the grid are crossed: by axis and the corner where they begin."""
    crossed = []
    for axis in range(3):
        differs = jnp.diff(inside, axis=axis)
        widths = [(0, 1) if i == axis else (0, 0) for i in range(3)]
        crossed.append(jnp.pad(differs, widths))
    return jnp.stack(crossed)


def _pieces(
    mask: Int[Array, "room"], room: int
) -> tuple[Int[Array, "room"], Int[Array, "room"], Int[Array, "room"]]:
    """Return the first vertex of each cell; and of each vertex the cell and which piece it is of.

    Where there are fewer vertices they are of piece -2 of cell 0, which no edge has.
    """
    counts = jnp.asarray(_tables().piece.max(1) + 1)[mask]
    first = running_total(counts) - counts
    cell, piece = jnp.zeros(room, jnp.int32), jnp.full(room, -2)
    for k in range(_PIECES):
        place = jnp.where(counts > k, first + k, room)
        cell = cell.at[place].set(jnp.arange(len(mask), dtype=jnp.int32), mode="drop")
        piece = piece.at[place].set(k, mode="drop")
    return first, cell, piece


def _vertices(
    cells: Int[Array, "room 3"],
    mask: Int[Array, "room"],
    piece: Int[Array, "room"],
    distance: Float[Array, "n n n"],
    corners: Float[Array, "n n n 3"],
) -> Float[Array, "room 3"]:
    """Return the means of the crossings of pieces of the surface, each in its cell."""
    n, (low, high) = len(distance), _EDGES.T
    places = cells + _CORNERS[:, None]
    index = (places[..., 0] * n + places[..., 1]) * n + places[..., 2]
    values = distance.reshape(-1)[index]
    own = jnp.asarray(_tables().piece)[mask].T == piece
    # Division by zero would poison gradients even of edges that are not crossed.
    part = values[low] / jnp.where(own, values[low] - values[high], 1.0)
    # A mean of points on edges is one of the corners: weights of edges are spread over their ends.
    share = own / jnp.maximum(jnp.sum(own, axis=0), 1)
    begin, end = (jnp.asarray(np.eye(8, dtype=np.float32)[ends].T) for ends in (low, high))
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    weights = product(begin, share * (1 - part)) + product(end, share * part)
    return weighted_rows(corners.reshape(-1, 3), index, weights)


def _partners(
    across: Int[Array, "room 4"], around: Int[Array, "room 4 3"], n: int
) -> Int[Array, "room 4"]:
    """Return the number of the grid's edge, of 3 n^3, that is `across` in the cells `around`."""
    low = around + jnp.asarray(_CORNERS[_EDGES[:, 0]])[across]
    return ((across // 4 * n + low[..., 0]) * n + low[..., 1]) * n + low[..., 2]


def _with_edges(
    vertices: Float[Array, "vertices 3"],
    quads: Int[Array, "room 4"],
    outwards: Bool[Array, "room"],
    exists: Bool[Array, "room"],
    neighbors: Int[Array, "room 4"],
) -> SurfaceMesh:
    """Return the mesh of quads, each cut along its shorter diagonal.

    `neighbors` are the quads at the sides from a corner to the next. Where `outwards` is false the
    corners are clockwise.
    """
    room = len(quads)
    quads = jnp.where(exists[:, None], quads, 0)
    places = jax.lax.stop_gradient(vertices)[quads]
    lengths = jnp.sum((places[:, :2] - places[:, 2:]) ** 2, -1)
    # Where the diagonal begins; of equally long ones rounding does not choose.
    first = (lengths[:, 0] > _LONGER * lengths[:, 1]).astype(jnp.int32)
    turned = (jnp.arange(4) + first[:, None]) % 4
    cut = jnp.take_along_axis(quads, turned, axis=1)
    triangles = jnp.stack([cut[:, (0, 1, 2)], cut[:, (0, 2, 3)]], axis=1)
    triangles = jnp.where(outwards[:, None, None], triangles, triangles[..., ::-1])
    # Sides k and k + 1 from the corner where the diagonal begins are in the first triangle.
    numbers = jnp.arange(room)
    in_second = (jnp.arange(4) - first[:, None]) % 4 >= 2
    own = 2 * numbers[:, None] + in_second
    near = jnp.minimum(neighbors, room - 1)
    ends = jnp.stack([quads, jnp.roll(quads, -1, axis=1)], -1)
    # The neighbor's triangle that has both ends; the other one may have one of them.
    theirs = triangles[near][..., 1, :]
    has_both = jnp.all(jnp.any(theirs[..., None, :] == ends[..., :, None], -1), -1)
    other = 2 * near + has_both
    once = exists[:, None] & (numbers[:, None] < neighbors) & (neighbors < room)
    kept, _ = select(once, 2 * room)
    there = kept < 4 * room
    kept = jnp.minimum(kept, 4 * room - 1)
    sides = jnp.stack([own, other], -1).reshape(-1, 2)[kept]
    diagonals = jnp.where(exists[:, None], 2 * numbers[:, None] + jnp.arange(2), -1)
    return SurfaceMesh(
        vertices=vertices,
        faces=triangles.reshape(-1, 3),
        edges=jnp.concatenate([ends.reshape(-1, 2)[kept], cut[:, (0, 2)]]),
        edge_faces=jnp.concatenate([jnp.where(there[:, None], sides, -1), diagonals]),
    )
