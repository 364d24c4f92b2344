"""Which triangle each pixel shows: visibility, barycentric coordinates and depth.

Edges are planes through the camera (homogeneous rasterization, Olano and Greer 1997): no triangle
is clipped, and neighbors share their edge to the last bit, so that no pixel falls between them.
Visibility has no gradient; what is read at a visible point has, and outlines get theirs from
`scene.mesh.antialiasing`.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.scene.mesh.work_list import nearest_owner
from dreamfusion_jax.types import Camera

NOTHING = -1  # the face of a pixel that shows none
_NEAR = 1e-3  # what is nearer to the camera's plane is not seen
_BLOCK = 64  # triangles that are looked at together, where every pixel is
# Up to so many pairs of a triangle and a pixel all of them are looked at.
_FEW_PAIRS = 2**21
_FEW_PAIRS_ON_TPU = 2**28  # scattered writes are slow there, arithmetic is not
_MARGIN = 1e-2  # pixels that boxes are wider: projections are rounded


@flax.struct.dataclass
class Fragments:
    """What every pixel shows: a face, or NOTHING.

    `barycentrics` are the weights of the face's corners, perspective-correct and differentiable,
    `depth` is the distance along the ray; both are 0 where there is nothing.
    """

    face: Int[Array, "views size size"]
    barycentrics: Float[Array, "views size size 3"]
    depth: Float[Array, "views size size"]

    @property
    def hit(self) -> Bool[Array, "views size size"]:
        """Whether a pixel shows any face."""
        return self.face >= 0


def in_camera(
    vertices: Float[Array, "vertices 3"], cameras: Camera
) -> Float[Array, "views vertices 3"]:
    """Return vertices in the frames of cameras: right, up and backward."""
    offsets = vertices[None] - cameras.position[:, None]
    columns = jnp.moveaxis(cameras.rotation, -1, 0)[:, :, None]
    return jnp.stack([dot(offsets, column) for column in columns], axis=-1)


def pixel_directions(focal: Float[Array, "*batch"], size: int) -> Float[Array, "*batch s s 3"]:
    """Return the directions of pixel centers in the camera's frame, (x, y, -focal), not of unit
    length: as in `scene.rays`, row 0 on top."""
    offset = (jnp.arange(size) + 0.5) / size - 0.5
    x, y = jnp.meshgrid(offset, -offset)
    shape = (*focal.shape, size, size)
    depth = jnp.broadcast_to(-focal[..., None, None], shape)
    return jnp.stack([jnp.broadcast_to(x, shape), jnp.broadcast_to(y, shape), depth], axis=-1)


def rasterize(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    cameras: Camera,
    size: int,
    *,
    cull: bool = False,
) -> Fragments:
    """Return what the pixels of views of a mesh show.

    Args:
      vertices: in the world frame.
      faces: corners, counterclockwise seen from outside; faces with two equal ones are not there.
      cameras: a batch.
      size: pixels a side.
      cull: leave out faces that are seen from behind, as of a closed mesh none is visible.
    """
    corners = in_camera(jax.lax.stop_gradient(vertices), cameras)
    face = visible_faces(corners, faces, cameras.focal, size, cull)
    return _fragments(vertices, faces, face, cameras)


def interpolate(
    fragments: Fragments, faces: Int[Array, "faces 3"], values: Float[Array, "vertices channels"]
) -> Float[Array, "views size size channels"]:
    """Return values of vertices at the visible points; 0 where there is nothing."""
    corners = values[faces[jnp.maximum(fragments.face, 0)]]
    first, second, third = (
        fragments.barycentrics[..., k, None] * corners[..., k, :] for k in range(3)
    )
    return first + second + third


def _fragments(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    face: Int[Array, "views size size"],
    cameras: Camera,
) -> Fragments:
    directions = world_directions(cameras, face.shape[1])
    corners = seen_from(cameras, vertices, faces[jnp.maximum(face, 0)])
    weights, t, hit = where_met(corners, directions, face >= 0)
    length = jnp.linalg.norm(directions, axis=-1)
    return Fragments(
        jnp.where(hit, face, NOTHING),
        weights,
        t * length,
    )


def where_met(
    corners: Float[Array, "*batch 3 3"],
    directions: Float[Array, "*batch 3"],
    hit: Bool[Array, "*batch"],
) -> tuple[Float[Array, "*batch 3"], Float[Array, "*batch"], Bool[Array, "*batch"]]:
    """Return where rays meet the planes of triangles: barycentrics, multiples of the directions.

    The last is whether they do; both are 0 where not.

    Args:
      corners: from the camera's position.
      directions: of any length.
      hit: which of them are asked for.
    """
    a, b, c = (corners[..., k, :] for k in range(3))
    normal = jnp.cross(b - a, c - a)
    slope, plane = dot(directions, normal), dot(a, normal)
    # Division by nearly zero would poison gradients even of pixels that are left out.
    met = hit & (slope != 0)
    t = plane / jnp.where(met, slope, 1.0)
    point = directions * t[..., None]
    # From the visible point: differences of nearby places keep their digits.
    a, b, c = a - point, b - point, c - point
    parts = jnp.stack([dot(normal, jnp.cross(*pair)) for pair in ((b, c), (c, a), (a, b))], -1)
    area = jnp.where(met, dot(normal, normal), 1.0)
    weights = jnp.where(met[..., None], parts / area[..., None], 0.0)
    return weights, jnp.where(met, t, 0.0), met


def world_directions(cameras: Camera, size: int) -> Float[Array, "views size size 3"]:
    """Return `pixel_directions` in the world frame."""
    directions = pixel_directions(cameras.focal, size)
    rows = jnp.moveaxis(cameras.rotation, -2, 0)[:, :, None, None]
    return jnp.stack([dot(directions, row) for row in rows], axis=-1)


def seen_from(
    cameras: Camera, vertices: Float[Array, "vertices 3"], index: Int[Array, "views size size k"]
) -> Float[Array, "views size size k 3"]:
    """Return some vertices for each pixel, from its camera's position, in the world frame."""
    return vertices[index] - cameras.position[:, None, None, None]


def visible_faces(
    corners: Float[Array, "views vertices 3"],
    faces: Int[Array, "faces 3"],
    focal: Float[Array, "views"],
    size: int,
    cull: bool = False,
) -> Int[Array, "views size size"]:
    """Return the nearest face of every pixel, of equally near ones the first; NOTHING if none.

    Of few triangles each is asked for each pixel; of many, only for those of its box.
    """
    planes, box = _planes(corners, faces, focal, size, cull)
    pairs = len(faces) * size**2

    def all_pairs() -> Int[Array, "views size size"]:
        return _of_all_pixels(planes, pixel_directions(focal, size))

    def boxes() -> Int[Array, "views size size"]:
        return _of_boxes(planes, box, focal, size)

    if pairs <= _FEW_PAIRS:
        return all_pairs()
    if pairs > _FEW_PAIRS_ON_TPU:
        return boxes()
    return jax.lax.platform_dependent(tpu=all_pairs, default=boxes)


def _planes(
    corners: Float[Array, "views vertices 3"],
    faces: Int[Array, "faces 3"],
    focal: Float[Array, "views"],
    size: int,
    cull: bool,
) -> tuple[Float[Array, "views faces 16"], Int[Array, "views faces 4"]]:
    """Return what a ray asks each face, and the pixels that may see it.

    The numbers of a face are the normals of the planes of its three edges, which point inwards, the
    face's own normal, its distance along it and the least and greatest depth (over the focal
    length) of its corners; the face's are turned to be positive. A box is its first column and
    row, its width and its height, and has no pixels where the face is not to be seen.
    """
    a, b, c = (corners[:, faces[:, k]] for k in range(3))
    normal = jnp.cross(b - a, c - a)
    distance = dot(a, normal)
    sign = jnp.sign(distance)[..., None]  # negative: the face is seen from its front
    edges = [_edge(corners, faces, i, j) * sign for i, j in ((1, 2), (2, 0), (0, 1))]
    depth = jnp.stack([-a[..., 2], -b[..., 2], -c[..., 2]], -1)  # distances to the camera's plane
    bounds = jnp.stack([depth.min(-1), depth.max(-1)], -1) / focal[:, None, None]
    planes = jnp.concatenate([*edges, sign * normal, sign * distance[..., None], bounds], -1)
    planes = jnp.pad(planes, ((0, 0), (0, 0), (0, 1)))  # 16 numbers are one line of a cache
    seen = (depth.max(-1) > _NEAR) & (distance != 0) & ~(cull & (distance > 0))
    for i, j in ((0, 1), (1, 2), (2, 0)):  # exactly, where rounding gave them an area
        seen &= faces[:, i] != faces[:, j]
    planes = jnp.where(seen[..., None], planes, 0.0)  # no ray meets those
    low, high = _bounding_box((a, b, c), focal, size)
    first = jnp.clip(jnp.ceil(low - _MARGIN), 0, size).astype(jnp.int32)
    last = jnp.clip(jnp.floor(high + _MARGIN), -1, size - 1).astype(jnp.int32)
    extent = jnp.where(seen[..., None], jnp.maximum(last - first + 1, 0), 0)
    return planes, jnp.concatenate([first, extent], -1)


def _edge(
    corners: Float[Array, "views vertices 3"], faces: Int[Array, "faces 3"], i: int, j: int
) -> Float[Array, "views faces 3"]:
    """Return the cross product of two corners, in a neighbor exactly the negative."""
    first, second = jnp.minimum(faces[:, i], faces[:, j]), jnp.maximum(faces[:, i], faces[:, j])
    p, q = corners[:, first], corners[:, second]
    sign = jnp.where(faces[:, i] < faces[:, j], 1.0, -1.0)[:, None]
    return jnp.cross(p, q - p) * sign


def _bounding_box(
    corners: tuple[Array, Array, Array], focal: Float[Array, "views"], size: int
) -> tuple[Float[Array, "views faces 2"], Float[Array, "views faces 2"]]:
    """Return the least and greatest column and row of what lies in front of the camera."""
    low = jnp.full((*corners[0].shape[:-1], 2), jnp.inf)
    high = -low
    for i in range(3):
        p, q = corners[i], corners[(i + 1) % 3]
        # Where the edge meets the near plane, if it does.
        ends = -p[..., 2] - _NEAR, -q[..., 2] - _NEAR
        crosses = ends[0] * ends[1] < 0
        part = ends[0] / jnp.where(crosses, ends[0] - ends[1], 1.0)
        for point, there in ((p, ends[0] >= 0), (p + part[..., None] * (q - p), crosses)):
            place = project(point, focal[:, None], size)
            low = jnp.minimum(low, jnp.where(there[..., None], place, jnp.inf))
            high = jnp.maximum(high, jnp.where(there[..., None], place, -jnp.inf))
    return low, high


def project(
    points: Float[Array, "*batch 3"], focal: Float[Array, "*#batch"], size: int
) -> Float[Array, "*batch 2"]:
    """Return column and row of points in the camera's frame; pixel centers are whole numbers."""
    depth = jnp.maximum(-points[..., 2], 0.5 * _NEAR)
    scale = focal / depth
    column = (points[..., 0] * scale + 0.5) * size - 0.5
    row = (0.5 - points[..., 1] * scale) * size - 0.5
    return jnp.stack([column, row], axis=-1)


def _depth_at(planes: Float[Array, "*#batch 16"], directions: Float[Array, "*#batch 3"]) -> Array:
    """Return the multiple of a ray's direction at which it meets a face, inf where it does not."""

    def along(i):
        return dot(planes[..., i : i + 3], directions)

    inside = (along(0) >= 0) & (along(3) >= 0) & (along(6) >= 0)
    slope = along(9)
    t = planes[..., 12] / jnp.where(slope > 0, slope, 1.0)
    # A face that is seen from its edge has no certain depth, but none beyond its corners'.
    t = jnp.clip(t, planes[..., 13], planes[..., 14])
    return jnp.where(inside & (slope > 0) & (t > 0), t, jnp.inf)


def _of_all_pixels(
    planes: Float[Array, "views faces 16"], directions: Float[Array, "views size size 3"]
) -> Int[Array, "views size size"]:
    """Return the nearest faces, where every pixel asks every face."""
    views, count, _ = planes.shape
    block = min(_BLOCK, count)
    padded = jnp.pad(planes, ((0, 0), (0, -count % block), (0, 0)))  # zeros have no slope
    blocks = jnp.moveaxis(padded.reshape(views, -1, block, 16), 1, 0)

    def nearer(carry, step):
        depth, face = carry
        number, some = step
        found = _depth_at(some[:, :, None, None], directions[:, None])
        best = jnp.min(found, axis=1)
        first = jnp.argmin(found, axis=1).astype(jnp.int32) + number * block
        return (jnp.minimum(depth, best), jnp.where(best < depth, first, face)), None

    shape = directions.shape[:-1]
    start = jnp.full(shape, jnp.inf), jnp.full(shape, NOTHING, jnp.int32)
    (_, face), _ = jax.lax.scan(nearer, start, (jnp.arange(len(blocks)), blocks))
    return face


def _of_boxes(
    planes: Float[Array, "views faces 16"],
    box: Int[Array, "views faces 4"],
    focal: Float[Array, "views"],
    size: int,
) -> Int[Array, "views size size"]:
    """Return the nearest faces, where every face asks the pixels of its box."""

    # Scenes that are mapped over take their turns: each has a length of its own.
    @jax.custom_batching.sequential_vmap
    def find(planes, box, focal):
        views, count, _ = planes.shape
        planes, box = planes.reshape(-1, 16), box.reshape(-1, 4)

        def candidates(owner, number):
            own, own_box, view = planes[owner], box[owner], owner // count
            width = jnp.maximum(own_box[:, 2], 1)
            column, row = own_box[:, 0] + number % width, own_box[:, 1] + number // width
            x, y = (column + 0.5) / size - 0.5, 0.5 - (row + 0.5) / size
            depth = _depth_at(own, jnp.stack([x, y, -focal[view]], axis=-1))
            return (view * size + row) * size + column, depth

        owner = nearest_owner(box[:, 2] * box[:, 3], candidates, views * size**2)
        return jnp.where(owner >= 0, owner % count, NOTHING).reshape(views, size, size)

    return find(planes, box, focal)


def dot(a: Float[Array, "*#batch 3"], b: Float[Array, "*#batch 3"]) -> Float[Array, "*batch"]:
    """Return the sums of products: accelerators would round the factors of a matrix product."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
