"""Outlines that blend with what is behind them: how pictures of a mesh move its vertices.

Where an outline crosses the line between the centers of two neighboring pixels, one of the two is
blended with the other by how much of it the crossing shows to be covered (analytic antialiasing,
nvdiffrast, Laine et al. 2020, section 3.4). The outlines themselves are rasterized here, not pairs
of pixels that show different faces: an outline that turns back within a pixel is found all the
same, and each is found once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.scene.mesh.rasterizer import (
    Fragments,
    dot,
    in_camera,
    pixel_directions,
    project,
    seen_from,
    world_directions,
)
from dreamfusion_jax.scene.mesh.work_list import nearest_owner
from dreamfusion_jax.types import Camera, SurfaceMesh

_NEAR = 1e-2  # outlines nearer to the camera's plane are left as they are
_TOUCHING = 1e-4  # of its depth, by how much an outline must be nearer than what is behind it


def antialias(
    image: Float[Array, "views size size channels"],
    fragments: Fragments,
    mesh: SurfaceMesh,
    cameras: Camera,
) -> Float[Array, "views size size channels"]:
    """Return pictures whose pixels at outlines are blended; the mesh gets gradients from them.

    Args:
      image: of the mesh, any channels, as they are at pixel centers.
      fragments: what the pixels show.
      mesh: that was rasterized.
      cameras: a batch.
    """
    size = image.shape[1]
    corners = in_camera(jax.lax.stop_gradient(mesh.vertices), cameras)
    code = _outlines(corners, fragments, mesh, cameras.focal, size)
    for axis in (2, 1):  # pairs of neighbors in a row, and in a column
        image = _blend(image, mesh, code[:, axis - 1], cameras, axis)
    return image


def _blend(
    image: Float[Array, "views size size channels"],
    mesh: SurfaceMesh,
    code: Int[Array, "views size size"],
    cameras: Camera,
    axis: int,
) -> Float[Array, "views size size channels"]:
    """Blend pairs of a pixel and the next along an axis, whose outline and side `code` says."""
    there = code >= 0
    edge, inside_is_next = jnp.maximum(code, 0) // 2, code % 2 == 1
    ends = seen_from(cameras, mesh.vertices, mesh.edges[edge])
    plane = jnp.cross(ends[..., 0, :], ends[..., 1, :] - ends[..., 0, :])
    directions = world_directions(cameras, image.shape[1])
    own, other = dot(directions, plane), dot(jnp.roll(directions, -1, axis), plane)
    span = own - other
    there &= span != 0
    # Where the outline crosses, as a share of the way from this pixel to the next.
    crossing = jnp.where(there, own / jnp.where(there, span, 1.0), 0.5)
    # By how much the covered part ends beyond the middle, seen from inside: this share of the pixel
    # outside is covered, or (negative) of the pixel inside is not.
    excess = jnp.clip(jnp.where(inside_is_next, 0.5 - crossing, crossing - 0.5), -0.5, 0.5)
    excess = jnp.where(there, excess, 0.0)[..., None]
    inside_is_next = inside_is_next[..., None]
    step = jnp.roll(image, -1, axis) - image
    inwards = jnp.where(inside_is_next, step, -step)  # from the color outside to that inside
    into_outside, into_inside = jnp.maximum(excess, 0) * inwards, jnp.minimum(excess, 0) * inwards
    of_own = jnp.where(inside_is_next, into_outside, into_inside)
    of_next = jnp.where(inside_is_next, into_inside, into_outside)
    return image + of_own + jnp.roll(of_next, 1, axis)


def _outlines(
    corners: Float[Array, "views vertices 3"],
    fragments: Fragments,
    mesh: SurfaceMesh,
    focal: Float[Array, "views"],
    size: int,
) -> Int[Array, "views 2 size size"]:
    """Return the outline between each pixel and the next in its column, and in its row.

    It is twice the edge's number, one more where the face is on the side of the next pixel, and
    NOTHING where there is none. A steep edge is looked for in every row that it spans, a flat one
    in every column.
    """
    edges, inside = _outline_edges(corners, mesh)
    p, q = (corners[:, mesh.edges[:, k]] for k in (0, 1))
    from_pixel, to_pixel = (project(x, focal[:, None], size) for x in (p, q))
    direction = to_pixel - from_pixel
    steep = jnp.abs(direction[..., 1]) > jnp.abs(direction[..., 0])
    # Along: rows of a steep edge, columns of a flat one. Half open, so that edges which meet in
    # a pixel's center have it once.
    start, stop = (
        jnp.where(steep, place[..., 1], place[..., 0]) for place in (from_pixel, to_pixel)
    )
    low, high = jnp.minimum(start, stop), jnp.maximum(start, stop)
    first = jnp.clip(jnp.ceil(low), 0, size).astype(jnp.int32)
    last = jnp.clip(jnp.ceil(high), 0, size).astype(jnp.int32)
    counts = jnp.where(edges, jnp.maximum(last - first, 0), 0)
    # The side on which the face lies, across the edge: towards larger columns or rows.
    third = project(inside, focal[:, None], size) - from_pixel
    turn = direction[..., 0] * third[..., 1] - direction[..., 1] * third[..., 0]
    along_it = jnp.where(steep, direction[..., 1], direction[..., 0])
    inside_is_next = jnp.where(steep, -turn, turn) * along_it > 0
    slope = jnp.where(steep, direction[..., 0], direction[..., 1]) / jnp.where(
        counts > 0, along_it, 1.0
    )
    cross_start = jnp.where(steep, from_pixel[..., 0], from_pixel[..., 1])
    inverse = jnp.stack([-1 / jnp.minimum(x[..., 2], -_NEAR) for x in (p, q)], -1)
    floats = jnp.stack(
        [start, cross_start, slope, inverse[..., 0], (inverse[..., 1] - inverse[..., 0]), along_it],
        axis=-1,
    )
    ints = jnp.stack([first, steep.astype(jnp.int32), inside_is_next.astype(jnp.int32)], -1)
    depth = jnp.where(fragments.hit, jax.lax.stop_gradient(fragments.depth), jnp.inf)
    length = jnp.linalg.norm(pixel_directions(focal, size), axis=-1) / focal[:, None, None]

    @jax.custom_batching.sequential_vmap
    def find(counts, floats, ints, axial_depth):
        views, count, _ = floats.shape
        floats, ints = floats.reshape(-1, 6), ints.reshape(-1, 3)
        flat_depth = axial_depth.reshape(-1)

        def candidates(owner, number):
            (start, cross_start, slope, near, change, along_it), view = (
                floats[owner].T,
                owner // count,
            )
            first, steep, inside_is_next = ints[owner].T
            place = first + number
            offset = place - start
            across = cross_start + slope * offset
            before = jnp.floor(across).astype(jnp.int32)
            row = jnp.where(steep == 1, place, before)
            column = jnp.where(steep == 1, before, place)
            edge_depth = 1 / (near + change * offset / along_it)
            # What the pixel outside shows must lie behind the outline.
            out_row = row + (steep == 0) * (1 - inside_is_next)
            out_column = column + (steep == 1) * (1 - inside_is_next)
            outside = (view * size + out_row) * size + out_column
            behind = flat_depth.at[outside].get(mode="clip")
            valid = (before >= 0) & (before < size - 1)
            valid &= edge_depth < behind * (1 - _TOUCHING)
            slot = ((view * 2 + steep) * size + row) * size + column
            return slot, jnp.where(valid, edge_depth, jnp.inf)

        owner = nearest_owner(counts.reshape(-1), candidates, views * 2 * size**2)
        code = 2 * (owner % count) + ints[jnp.maximum(owner, 0), 2]
        return jnp.where(owner >= 0, code, -1).reshape(views, 2, size, size)

    return find(counts, floats, ints, depth / length)


def _outline_edges(
    corners: Float[Array, "views vertices 3"], mesh: SurfaceMesh
) -> tuple[Bool[Array, "views edges"], Float[Array, "views edges 3"]]:
    """Return which edges are outlines, and the third corner of the face that is seen there.

    Those at which a face that is seen meets one that is seen from behind, or the mesh ends.
    """
    a, b, c = (corners[:, mesh.faces[:, k]] for k in range(3))
    front = dot(a, jnp.cross(b - a, c - a)) < 0
    exists = mesh.edge_faces >= 0
    both = jnp.maximum(mesh.edge_faces, 0)
    fronts = front[:, both] & exists
    boundary = exists[:, 0] != exists[:, 1]
    outline = (fronts[..., 0] != fronts[..., 1]) | boundary
    # Of a boundary the only face there is; else the one that is seen.
    own = jnp.where(boundary, exists[:, 0], fronts[..., 0])
    face = jnp.where(own, both[:, 0], both[:, 1])
    # The corner of the face that is no end of the edge.
    triple, ends = mesh.faces[face], mesh.edges[None, :, None]
    other = (triple != ends[..., 0]) & (triple != ends[..., 1])
    third = jnp.sum(jnp.where(other, triple, 0), axis=-1)
    front_of_camera = jnp.all(-corners[:, mesh.edges, 2] > _NEAR, axis=-1)
    inside = jax.vmap(lambda v, i: v[i])(corners, third)
    return outline & front_of_camera, inside
