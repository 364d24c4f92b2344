"""Rendering many finished views quickly: rays through empty space are not evaluated.

A coarse occupancy grid tells which rays can meet anything, and where; only those are
rendered, each between its first and last occupied cell.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import ndimage

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.lights import albedo_light
from dreamfusion_jax.scene.rays import cast_rays
from dreamfusion_jax.scene.render import Scene, density_at, render_rays
from dreamfusion_jax.types import Camera, Light, Rays

# A density that hides less than this share of a ray across the whole scene is empty space.
NEGLIGIBLE_OPACITY = 0.02


def grid_points(
    low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"], shape: tuple[int, int, int]
) -> Float[np.ndarray, "points 3"]:
    """Points of a regular grid from corner to corner, flattened in index order."""
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, shape, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def negligible_density(scene: Scene) -> float:
    """The density below which space counts as empty."""
    return -np.log1p(-NEGLIGIBLE_OPACITY) / (2 * scene.radius)


def occupied_cells(
    scene: Scene, params: dict, resolution: int = 64
) -> Bool[np.ndarray, "resolution resolution resolution"]:
    """Where density matters, on a grid from -radius to radius, with a margin of one cell.

    Raises:
      UserError: the field holds numbers that are not finite.
    """
    corner = np.full(3, scene.radius)
    points = grid_points(-corner, corner, (resolution,) * 3)
    inside = np.linalg.norm(points, axis=-1) < scene.radius
    density = density_at(scene, params, points[inside])
    if not np.isfinite(density).all():
        raise UserError(
            "The scene holds numbers that are not finite; go back to an older checkpoint "
            "or run again with a smaller config.optim.learning_rate."
        )
    occupied = np.zeros(len(points), bool)
    occupied[inside] = density > negligible_density(scene)
    occupied = occupied.reshape((resolution,) * 3)
    return ndimage.binary_dilation(occupied, np.ones((3, 3, 3)))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Views of a scene over black: colours, depths and normals are premultiplied by opacity.

    `rgb` is shaded, `albedo` is not; both in [0, 1]. `depth` is the distance along the
    ray, `normals` are in the world frame.
    """

    rgb: Float[np.ndarray, "views size size 3"]
    albedo: Float[np.ndarray, "views size size 3"]
    opacity: Float[np.ndarray, "views size size"]
    depth: Float[np.ndarray, "views size size"]
    normals: Float[np.ndarray, "views size size 3"]


def render_views(
    scene: Scene,
    params: dict,
    cameras: Camera,
    size: int,
    *,
    occupied: Bool[np.ndarray, "n n n"] | None = None,
    lights: Light | None = None,
    normals: bool = True,
    chunk: int = 2048,
    before_chunk: Callable[[], None] | None = None,
) -> Pictures:
    """Renders a batch of views.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      cameras: a batch of views.
      size: width and height in pixels.
      occupied: from `occupied_cells`; None finds it.
      lights: one per view; None shows the albedo.
      normals: False leaves out all that needs the field's gradient: normals are then
        zero and rgb is the albedo.
      chunk: rays per call of the compiled program, which bounds the memory.
      before_chunk: called before each of them; what it raises ends the rendering.
    """
    occupied = occupied_cells(scene, params) if occupied is None else occupied
    count = cameras.focal.shape[0]
    lights = albedo_light((count,)) if lights is None else lights
    rays, hit = _tight_rays(cameras, size, scene.radius, occupied)
    view_of_ray = np.repeat(np.arange(count), size * size)
    light_of_view = [np.asarray(x) for x in jax.tree.leaves(lights)]
    active = np.flatnonzero(hit)
    parts = []
    for start in range(0, max(len(active), 1), chunk):
        if before_chunk is not None:
            before_chunk()
        index = active[start : start + chunk]
        padded = np.resize(index, chunk) if len(index) else np.zeros(chunk, int)
        ray = tuple(x[padded] for x in rays)
        light = tuple(x[view_of_ray[padded]] for x in light_of_view)
        out = _render_chunk(scene, params, ray, light, normals)
        parts.append([np.asarray(x)[: len(index)] for x in out])
    shape = (count, size, size)
    return Pictures(*(_scatter(pieces, active, shape) for pieces in zip(*parts, strict=True)))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _render_chunk(
    scene: Scene, params: dict, rays: tuple[Array, ...], lights: tuple[Array, ...], normals: bool
) -> tuple[Array, ...]:
    scene = scene if normals else dataclasses.replace(scene, points_per_chunk=0)
    # Every ray counts as a view with a light of its own.
    black = jnp.zeros_like(rays[0])
    out = render_rays(scene, params, Rays(*rays), Light(*lights), black, None)
    out = out.replace(rgb=out.rgb[..., :3], albedo=out.albedo[..., :3])
    # What is not returned is not computed: the compiler drops the field's gradient (if
    # it is not inside a loop over chunks).
    shading = (out.rgb, out.normals) if normals else (out.albedo, jnp.zeros_like(out.albedo))
    return shading[0], out.albedo, out.opacity, out.depth, shading[1]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _cast(cameras: Camera, size: int, radius: float) -> Rays:
    return jax.vmap(lambda camera: cast_rays(camera, size, radius))(cameras)


def _tight_rays(
    cameras: Camera, size: int, radius: float, occupied: Bool[np.ndarray, "n n n"]
) -> tuple[tuple[np.ndarray, ...], Bool[np.ndarray, "rays"]]:
    """Origins, directions, near and far of all rays, and which of them meet anything."""
    rays = _cast(cameras, size, radius)
    origins, directions = (np.asarray(x).reshape(-1, 3) for x in (rays.origins, rays.directions))
    bounds = (np.asarray(x).reshape(-1) for x in (rays.near, rays.far))
    near, far, hit = _tighten(origins, directions, *bounds, occupied, radius)
    return (origins, directions, near, far), hit


def _tighten(
    origins: Float[np.ndarray, "rays 3"],
    directions: Float[np.ndarray, "rays 3"],
    near: Float[np.ndarray, "rays"],
    far: Float[np.ndarray, "rays"],
    occupied: Bool[np.ndarray, "n n n"],
    radius: float,
    block: int = 16384,
) -> tuple[Float[np.ndarray, "rays"], Float[np.ndarray, "rays"], Bool[np.ndarray, "rays"]]:
    """Near and far at the first and last occupied cell, and which rays meet any."""
    n = occupied.shape[0]
    steps = 2 * n  # half a cell at most between two looks; the margin covers the rest
    fractions = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    tight_near, tight_far, hit = near.copy(), far.copy(), np.zeros(len(near), bool)
    for start in range(0, len(near), block):
        cut = slice(start, start + block)
        length = (far[cut] - near[cut])[:, None]
        distance = near[cut, None] + length * fractions
        points = origins[cut, None] + distance[..., None] * directions[cut, None]
        index = np.rint((points + radius) * ((n - 1) / (2 * radius))).astype(np.int32)
        index = np.clip(index, 0, n - 1)
        full = occupied[index[..., 0], index[..., 1], index[..., 2]] & (length > 0)
        first, last = full.argmax(axis=1), steps - 1 - full[:, ::-1].argmax(axis=1)
        hit[cut] = full.any(axis=1)
        tight_near[cut] += (length[:, 0] * (first / steps)).astype(np.float32)
        tight_far[cut] -= (length[:, 0] * (1 - (last + 1) / steps)).astype(np.float32)
    return tight_near, tight_far, hit


def _scatter(parts: Sequence[np.ndarray], active: np.ndarray, shape: tuple[int, int, int]):
    values = np.concatenate(parts)
    whole = np.zeros((int(np.prod(shape)), *values.shape[1:]), values.dtype)
    whole[active] = values
    return whole.reshape(*shape, *values.shape[1:])
