"""The colors of a scene on a mesh: at its vertices, or in a texture."""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import trimesh
import xatlas
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8
from tqdm.auto import tqdm

from dreamfusion_jax.export.images import to_uint8
from dreamfusion_jax.scene.base import FINISHED, Scene, Step
from dreamfusion_jax.scene.nerf import NerfScene, Prepared, in_chunks, prepare_once
from dreamfusion_jax.scene.volume import composite, rendering_weights

# Where a point takes its color from, along the normal, out to in, in units of _DEPTH.
_DEPTHS = np.array([1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0])
_DEPTH = 1 / 96  # of the mesh's longest side
_RAYS_PER_CALL = 8192
_CHART_MARGIN = 4  # texels between charts
_CELLS_PER_BATCH = 2**20


# Points and their normals -> colors.
Painter: TypeAlias = Callable[
    [Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]], Float[np.ndarray, "n 3"]
]


def with_vertex_colors(
    scene: Scene, params: dict, mesh: trimesh.Trimesh, *, step: int = FINISHED
) -> trimesh.Trimesh:
    """Return a copy of a mesh of the scene with the albedo at its vertices (sRGB, as rendered)."""
    paint = _painter(scene, params, step, mesh)
    colors = paint(mesh.vertices, mesh.vertex_normals)
    alpha = np.full((len(colors), 1), 255, np.uint8)
    return trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.vertex_normals,
        vertex_colors=np.concatenate([to_uint8(colors), alpha], 1),
        process=False,
    )


def with_texture(
    scene: Scene,
    params: dict,
    mesh: trimesh.Trimesh,
    size: int = 1024,
    *,
    step: int = FINISHED,
    progress: bool = False,
) -> trimesh.Trimesh:
    """Return a copy of a scene's mesh, unwrapped by xatlas, with its albedo as a texture (sRGB).

    Between charts the texture continues the colors near by, so that seams do not show through
    filtering and smaller copies. The material is rough and no metal.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      mesh: of `extract_mesh`.
      size: width and height of the texture in pixels.
      step: of the run, for what is annealed.
      progress: whether to show a progress bar.
    """
    vertex, faces, uv = unwrap(mesh, size)
    normals = mesh.vertex_normals[vertex]
    image = _texture(_painter(scene, params, step, mesh), mesh, (vertex, faces, uv), size, progress)
    material = trimesh.visual.material.PBRMaterial(
        name="albedo",
        baseColorTexture=PIL.Image.fromarray(image),
        metallicFactor=0.0,
        roughnessFactor=1.0,
        doubleSided=True,
    )
    return trimesh.Trimesh(
        mesh.vertices[vertex],
        faces,
        vertex_normals=normals,
        visual=trimesh.visual.TextureVisuals(uv, material=material),
        process=False,
    )


def unwrap(
    mesh: trimesh.Trimesh, size: int
) -> tuple[Int[np.ndarray, "corners"], Int[np.ndarray, "faces 3"], Float[np.ndarray, "corners 2"]]:
    """Return the charts of a mesh for a texture of `size` pixels.

    Returns:
      For each vertex of the unwrapped mesh the one of `mesh` that it copies; its faces; and its
      texture coordinates in [0, 1], from the bottom left.
    """
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, _CHART_MARGIN, True
    atlas.generate(xatlas.ChartOptions(), packing)
    vertex, faces, uv = atlas[0]
    return vertex.astype(np.int64), faces.astype(np.int64), uv.astype(np.float64)


def _painter(scene: Scene, params: dict, step: int, mesh: trimesh.Trimesh) -> Painter:
    """Return what gives the colors in [0, 1] of points on a mesh, of them and their normals."""
    if isinstance(scene, NerfScene):
        depth = _DEPTH * float(mesh.extents.max())
        return functools.partial(
            surface_colors, scene, prepare_once(scene, params, step), depth=depth
        )

    def paint(points, normals):
        return in_chunks(functools.partial(_albedo, scene, params, step), points, _RAYS_PER_CALL)

    return paint


@functools.partial(jax.jit, static_argnums=0)
def _albedo(
    scene: Scene, params: dict, step: Step, points: Float[Array, "n 3"]
) -> Float[Array, "n 3"]:
    return scene.at_points(params, points, step).albedo[:, :3]


def surface_colors(
    scene: NerfScene,
    ready: Prepared,
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    depth: float,
) -> Float[np.ndarray, "n 3"]:
    """Return what short rays along the inward normals would show: colors weighted as in rendering.

    Args:
      scene: modules and sampling numbers.
      ready: the scene, of `prepare_once`.
      points: on the surface.
      normals: of unit length, outwards.
      depth: how far outside of the surface the rays begin.
    """
    colors = np.empty((len(points), 3), np.float32)
    for start in range(0, len(points), _RAYS_PER_CALL):
        rays = np.stack([x[start : start + _RAYS_PER_CALL] for x in (points, normals)])
        padded = np.pad(
            rays.astype(np.float32), [(0, 0), (0, _RAYS_PER_CALL - rays.shape[1]), (0, 0)]
        )
        part = _ray_colors(scene, ready, *padded, depth * _DEPTHS)
        colors[start : start + _RAYS_PER_CALL] = part[: rays.shape[1]]
    return colors


@functools.partial(jax.jit, static_argnums=0)
def _ray_colors(
    scene: NerfScene,
    ready: Prepared,
    points: Float[Array, "n 3"],
    normals: Float[Array, "n 3"],
    depths: Float[Array, "samples"],
) -> Float[Array, "n 3"]:
    samples = points[:, None] + depths[:, None] * normals[:, None]
    out = scene.field.query(ready.tables, samples.reshape(-1, 3), normals=False)
    shape = samples.shape[:2]
    inside = jnp.linalg.norm(samples, axis=-1) < scene.radius
    density = jnp.where(inside, out.density.reshape(shape), 0.0)
    lengths = -jnp.diff(depths, append=2 * depths[-1] - depths[-2])
    weights = rendering_weights(density, jnp.broadcast_to(lengths, shape))
    weights = weights + 1e-6  # where there is nothing at all: their mean
    colors = composite(weights, out.albedo[:, :3].reshape(*shape, 3))
    return colors / weights.sum(1, keepdims=True)


def _texture(
    paint: Painter,
    mesh: trimesh.Trimesh,
    charts: tuple[np.ndarray, np.ndarray, np.ndarray],
    size: int,
    progress: bool,
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the albedo at the texels whose centers lie in a chart, what is near at all others."""
    vertex, faces, uv = charts
    vertices, normals = mesh.vertices[vertex], mesh.vertex_normals[vertex]
    triangles = uv[faces] * size
    owner = covering(triangles, size)
    image = np.zeros((size, size, 3), np.uint8)
    rows = max(1, _CELLS_PER_BATCH // size)
    with tqdm(total=size, desc="texture", unit="row", disable=not progress) as bar:
        for start in range(0, size, rows):
            y, x = np.nonzero(owner[start : start + rows] >= 0)
            y += start
            face = owner[y, x]
            weights = barycentric(triangles[face], x, y)
            points = np.einsum("nk,nkd->nd", weights, vertices[faces[face]])
            outward = np.einsum("nk,nkd->nd", weights, normals[faces[face]])
            outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
            colors = paint(points, outward)
            image[size - 1 - y, x] = to_uint8(colors)
            bar.update(min(rows, size - start))
    fill(image, owner[::-1] >= 0)
    return image


def fill(image: UInt8[np.ndarray, "height width 3"], known: Bool[np.ndarray, "height width"]):
    """Set in place what is not known to the mean of what is near and known.

    By pulling and pushing (Gortler et al. 1996, "The Lumigraph", section 3.4): from copies of half
    the size. So the smaller copies that are shown from far away are means of what is known, too.
    """
    height, width = known.shape
    if known.all() or max(height, width) == 1:
        return
    half = ((height + 1) // 2, (width + 1) // 2)
    total, count = np.zeros((*half, 3), np.uint16), np.zeros(half, np.uint8)
    parts = [(image[i::2, j::2], known[i::2, j::2]) for i in (0, 1) for j in (0, 1)]
    for colors, there in parts:
        h, w = there.shape
        np.add(total[:h, :w], colors, out=total[:h, :w], where=there[..., None])
        count[:h, :w] += there
    total //= np.maximum(count, 1)[..., None]
    smaller = total.astype(np.uint8)
    del total
    fill(smaller, count > 0)
    for colors, there in parts:
        h, w = there.shape
        np.copyto(colors, smaller[:h, :w], where=~there[..., None])


def covering(
    triangles: Float[np.ndarray, "faces 3 2"], size: int
) -> Int32[np.ndarray, "size size"]:
    """Return the number of the triangle, x to the right and y up, that each cell's center lies in.

    Of a grid of cells at [y, x] with centers (x + 1/2, y + 1/2). Of several triangles it is one
    of them; -1 where there is none.
    """
    low = np.clip(np.floor(triangles.min(1)), 0, size - 1).astype(np.int64)
    high = np.clip(np.ceil(triangles.max(1)), 1, size).astype(np.int64)
    extent = np.maximum(high - low, 1)
    count = extent.prod(1)
    owner = np.full((size, size), -1, np.int32)
    # So many cells at a time as bound the memory, whatever the size.
    batch = (np.cumsum(count) - count) // _CELLS_PER_BATCH
    for faces in np.split(np.arange(len(count)), np.flatnonzero(np.diff(batch)) + 1):
        cells = count[faces]
        face = np.repeat(faces, cells)
        offset = np.arange(len(face)) - np.repeat(np.cumsum(cells) - cells, cells)
        x = low[face, 0] + offset % extent[face, 0]
        y = low[face, 1] + offset // extent[face, 0]
        inside = (barycentric(triangles[face], x, y) >= 0).all(1)
        owner[y[inside], x[inside]] = face[inside]
    return owner


def barycentric(
    triangles: Float[np.ndarray, "n 3 2"], x: Int[np.ndarray, "n"], y: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n 3"]:
    """Return the barycentric coordinates of (x + 1/2, y + 1/2); negative in flat triangles."""
    a, b, c = triangles.transpose(1, 0, 2)
    p = np.stack([x + 0.5, y + 0.5], 1)
    parts = np.stack([_cross(b - p, c - p), _cross(c - p, a - p), _cross(a - p, b - p)], 1)
    area = parts.sum(1, keepdims=True)
    flat = np.abs(area) < 1e-12
    return np.where(flat, -1.0, parts / np.where(flat, 1.0, area))


def _cross(u: Float[np.ndarray, "n 2"], v: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
