"""Renders textured objects with the rasterizer: finely sampled, on whatever JAX runs on.

Where `scene.mesh.drawing` draws closed meshes to be optimized, this shows what modelers make: parts
that overlap, end anywhere and are seen from both sides, each with a picture or a color of its own.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part
from dreamfusion_jax.scene.fields.interpolation import weighted_rows
from dreamfusion_jax.scene.mesh.rasterizer import dot, in_camera, visible_faces, where_met
from dreamfusion_jax.scene.mesh.texture import smaller_copies
from dreamfusion_jax.scene.shading import shade
from dreamfusion_jax.types import Camera, FieldOutput, Light

_LEAST = 1024  # rows of a table: there are few sizes, so that few programs are compiled
_SAMPLES = 2**20  # of rays, in one call
_CHUNK = 2**17  # samples that show something, in one call
_MOST_COPIES = 12  # of a texture


@flax.struct.dataclass
class Model:
    """An object as tables: of vertices, of faces, and of the texels of all pictures.

    The rows of `texture` are, for each face, where its picture begins in `texels`, its height, its
    width and the number of its smaller copies, which follow it; `density` is how many texels lie
    along a unit of length.
    """

    values: Float[Array, "vertices 8"]  # places, normals, texture coordinates
    faces: Int[Array, "faces 3"]
    color: Float[Array, "faces 3"]
    texture: Int[Array, "faces 4"]
    density: Float[Array, "faces"]
    texels: Float[Array, "texels 3"]


def to_model(obj: Object3D) -> Model:
    """Return an object as tables, padded: textures must have sides that are powers of 2."""
    pictures: dict[int, tuple[int, int, int, int]] = {}
    texels, begin = [np.ones((1, 3), np.float32)], 1
    for i, part in enumerate(obj.parts):
        if part.texture is None:
            pictures[i] = (0, 1, 1, 0)
            continue
        copies = smaller_copies(part.texture.astype(np.float32) / 255)
        pictures[i] = (begin, *part.texture.shape[:2], len(copies) - 1)
        texels += [np.asarray(copy).reshape(-1, 3) for copy in copies]
        begin += sum(copy.shape[0] * copy.shape[1] for copy in copies)
    starts = itertools.accumulate((len(part.vertices) for part in obj.parts), initial=0)
    pairs = list(zip(obj.parts, starts, strict=False))
    counts = [len(part.faces) for part in obj.parts]

    def of_faces(rows: list) -> np.ndarray:
        return np.repeat(np.array(rows), counts, axis=0)

    return Model(
        values=_padded(np.concatenate([_values(part) for part in obj.parts])),
        faces=_padded(np.concatenate([part.faces + start for part, start in pairs]).astype(int)),
        color=_padded(of_faces([part.color for part in obj.parts]).astype(np.float32)),
        texture=_padded(of_faces([pictures[i] for i in range(len(pairs))])),
        density=_padded(np.concatenate([_density(part) for part in obj.parts])),
        texels=_padded(np.concatenate(texels)),
    )


def _values(part: Part) -> np.ndarray:
    uv = np.zeros((len(part.vertices), 2), np.float32) if part.uv is None else part.uv
    return np.concatenate([part.vertices, part.normals, uv], 1)


def _density(part: Part) -> Float[np.ndarray, "faces"]:
    """Return how many texels lie along a unit of length, by the areas of faces."""
    if part.texture is None or part.uv is None:
        return np.zeros(len(part.faces), np.float32)
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    a, b, c = (part.uv[part.faces[:, k]] * part.texture.shape[1::-1] for k in range(3))
    (u, v), (s, t) = (b - a).T, (c - a).T
    return np.sqrt(np.abs(u * t - v * s) / np.maximum(area, 1e-12)).astype(np.float32)


def _padded(rows: np.ndarray) -> Array:
    """Return rows and as many zeros as make their number a power of 2: faces of them are none."""
    room = max(_LEAST, 2 ** math.ceil(math.log2(max(len(rows), 1))))
    zeros = np.zeros((room - len(rows), *rows.shape[1:]), rows.dtype)
    return jnp.asarray(np.concatenate([rows, zeros]))


@dataclasses.dataclass(frozen=True)
class Look:
    """How an object is lit; `textureless` makes it white."""

    ambient: float = 0.7
    diffuse: float = 0.4
    textureless: bool = False


def photograph(
    obj: Object3D,
    cameras: Camera,
    lights: Float[Array | np.ndarray, "views 3"],
    size: int,
    looks: Sequence[Look] = (Look(),),
    *,
    supersampling: int = 4,
) -> UInt8[np.ndarray, "looks views size size 4"]:
    """Return views in some looks each, with straight (not premultiplied) alpha.

    Args:
      obj: normalized, in the world frame; the sides of its textures are powers of 2.
      cameras: a batch.
      lights: where the light of each view stands.
      size: pixels a side.
      looks: of all views.
      supersampling: samples per pixel and axis, averaged by a box filter.
    """
    model, samples = to_model(obj), size * supersampling
    count = cameras.focal.shape[0]
    together = min(count, max(1, _SAMPLES // samples**2))

    views = []
    for start in range(0, count, together):
        index = np.minimum(np.arange(start, start + together), count - 1)
        camera, light = jax.tree.map(
            lambda x, i=index: jnp.asarray(x, jnp.float32)[i], (cameras, lights)
        )
        face = np.asarray(_visible(model, camera, samples))
        colors = _colors_of(model, camera, light, face, tuple(looks))
        views.append(_shrunk(colors, face >= 0, supersampling)[:, : count - start])
    return np.concatenate(views, axis=1)


@functools.partial(jax.jit, static_argnums=2)
def _visible(model: Model, cameras: Camera, samples: int) -> Int[Array, "views samples samples"]:
    corners = in_camera(model.values[:, :3], cameras)
    return visible_faces(corners, model.faces, cameras.focal, samples)


def _colors_of(
    model: Model,
    cameras: Camera,
    lights: Float[Array, "views 3"],
    face: Int[np.ndarray, "views samples samples"],
    looks: tuple[Look, ...],
) -> Float[np.ndarray, "looks seen 3"]:
    """Return the colors of all samples that show a face, in index order."""
    flat = face.reshape(-1)
    (seen,) = np.nonzero(flat >= 0)
    parts = []
    for start in range(0, max(len(seen), 1), _CHUNK):
        some = np.resize(seen[start : start + _CHUNK], _CHUNK)
        own = flat[some] if len(seen) else np.zeros(_CHUNK, np.int32)
        parts.append(_shaded(model, cameras, lights, some, own, face.shape[1], looks))
    colors = np.concatenate([np.asarray(part) for part in parts], axis=1)
    return colors[:, : len(seen)]


@functools.partial(jax.jit, static_argnums=(5, 6))
def _shaded(
    model: Model,
    cameras: Camera,
    lights: Float[Array, "views 3"],
    sample: Int[Array, "chunk"],
    face: Int[Array, "chunk"],
    samples: int,
    looks: tuple[Look, ...],
) -> Float[Array, "looks chunk 3"]:
    view, inside = sample // samples**2, sample % samples**2
    camera = jax.tree.map(lambda x: x[view], cameras)
    row, column = inside // samples, inside % samples
    x, y = (column + 0.5) / samples - 0.5, 0.5 - (row + 0.5) / samples
    local = jnp.stack([x, y, -camera.focal], axis=-1)
    directions = jnp.stack([dot(camera.rotation[:, k], local) for k in range(3)], axis=-1)
    values = model.values[model.faces[face]]
    corners = values[..., :3] - camera.position[:, None]
    weights, t, _ = where_met(corners, directions, jnp.ones(len(sample), bool))
    first, second, third = (weights[:, k, None] * values[:, k] for k in range(3))
    found = first + second + third
    points, normals, uv = found[:, :3], found[:, 3:6], found[:, 6:]
    # Faces are seen from both sides.
    normals = jnp.where(dot(normals, directions)[:, None] > 0, -normals, normals)
    normals = normals * jax.lax.rsqrt(jnp.sum(normals**2, -1, keepdims=True) + 1e-12)
    spacing = t / samples  # between samples, where a ray of length 1 along the axis is focal
    albedo = model.color[face] * _texture(model, face, uv, spacing)
    field = FieldOutput(density=t, albedo=albedo, normals=normals)
    ones = jnp.ones(len(sample))
    return jnp.stack(
        [
            shade(
                field,
                points,
                Light(
                    position=lights[view],
                    diffuse=look.diffuse * ones,
                    ambient=look.ambient * ones,
                    textureless=look.textureless * ones,
                ),
            )
            for look in looks
        ]
    ).clip(0, 1)


def _shrunk(
    colors: Float[np.ndarray, "looks seen 3"],
    seen: Bool[np.ndarray, "views samples samples"],
    factor: int,
) -> UInt8[np.ndarray, "looks views size size 4"]:
    """Return the means over the samples of pixels, with straight alpha."""
    views, samples, _ = seen.shape
    size = samples // factor
    (index,) = np.nonzero(seen.reshape(-1))
    view, row, column = np.unravel_index(index, seen.shape)
    pixel = (view * size + row // factor) * size + column // factor
    count = views * size**2
    hits = np.bincount(pixel, minlength=count)
    means = [
        [np.bincount(pixel, look[:, k], count) / np.maximum(hits, 1) for k in range(3)]
        for look in colors
    ]
    alpha = np.broadcast_to(hits / factor**2, (len(colors), 1, count))
    rgba = np.concatenate([np.array(means), alpha], axis=1)
    pictures = np.rint(255 * rgba).astype(np.uint8).reshape(len(colors), 4, views, size, size)
    return np.ascontiguousarray(np.moveaxis(pictures, 1, -1))


def _texture(
    model: Model,
    face: Int[Array, "chunk"],
    uv: Float[Array, "chunk 2"],
    spacing: Float[Array, "chunk"],
) -> Float[Array, "chunk 3"]:
    """Return pictures at texture coordinates, which repeat, from the copy that is as fine.

    `spacing` is the distance between samples.
    """
    begin, height, width, last = model.texture[face].T
    level = jnp.log2(jnp.maximum(model.density[face] * spacing, 1e-6))
    level = jnp.clip(jnp.round(level).astype(jnp.int32), 0, last)
    for step in range(_MOST_COPIES):  # over the larger ones that lie before
        larger = step < level
        begin = jnp.where(larger, begin + height * width, begin)
        height = jnp.where(larger, jnp.maximum(height // 2, 1), height)
        width = jnp.where(larger, jnp.maximum(width // 2, 1), width)
    place = jnp.stack([uv[:, 0] * width, (1 - uv[:, 1]) * height], -1) - 0.5
    corner = jnp.floor(place)
    share, (column, row) = place - corner, corner.astype(jnp.int32).T
    index, weights = [], []
    for i, j in itertools.product((0, 1), (0, 1)):
        index.append(begin + (row + i) % height * width + (column + j) % width)
        across = share[:, 0] if j else 1 - share[:, 0]
        weights.append(across * (share[:, 1] if i else 1 - share[:, 1]))
    return weighted_rows(model.texels, jnp.stack(index), jnp.stack(weights))
