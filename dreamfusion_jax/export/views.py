"""Rendering many finished views quickly: rays through empty space are not evaluated.

A coarse occupancy grid tells which rays can meet anything, and where; only those are
rendered, each between its first and last occupied cell.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import ndimage

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.lights import albedo_light
from dreamfusion_jax.scene.rays import cast_rays
from dreamfusion_jax.scene.render import Scene, density_at, render_rays
from dreamfusion_jax.types import Camera, Light, Rays, RenderOutput

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
) -> RenderOutput:
    """Renders views over black, so that `rgb` is premultiplied like all else.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      cameras: a batch of views.
      size: width and height in pixels.
      occupied: from `occupied_cells`; None finds it.
      lights: one per view; None shows the albedo.
      normals: False leaves out all that needs the field's gradient (normals,
        orientation and shading are then zero, rgb is the albedo); a third of the work.
      chunk: rays per call of the compiled program, which bounds the memory.

    Returns:
      Numpy arrays of batch shape [views, size, size].
    """
    occupied = occupied_cells(scene, params) if occupied is None else occupied
    count = cameras.focal.shape[0]
    lights = albedo_light((count,)) if lights is None else lights
    rays = jax.tree.map(
        lambda x: np.asarray(x).reshape(-1, *x.shape[3:]), _cast(cameras, size, scene.radius)
    )
    rays, hit = _tighten(rays, occupied, scene.radius)
    view_of_ray = np.repeat(np.arange(count), size * size)
    active = np.flatnonzero(hit)
    parts = []
    for start in range(0, max(len(active), 1), chunk):
        index = active[start : start + chunk]
        padded = np.resize(index, chunk) if len(index) else np.zeros(chunk, int)
        batch = jax.tree.map(lambda x, i=padded: x[i], rays)
        light = jax.tree.map(lambda x, i=view_of_ray[padded]: np.asarray(x)[i], lights)
        out = _render_chunk(scene, params, batch, light, normals)
        parts.append(jax.tree.map(lambda x, i=index: np.asarray(x)[: len(i)], out))
    return jax.tree.map(lambda *p: _scatter(p, active, (count, size, size)), *parts)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _cast(cameras: Camera, size: int, radius: float) -> Rays:
    return jax.vmap(lambda camera: cast_rays(camera, size, radius))(cameras)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _render_chunk(
    scene: Scene, params: dict, rays: Rays, lights: Light, normals: bool
) -> RenderOutput:
    black = jnp.zeros(3)
    out = jax.vmap(lambda ray, light: render_rays(scene, params, ray, light, black, None))(
        rays, lights
    )
    if normals:
        return out
    # What is not returned is not computed: the compiler drops the field's gradient.
    zeros = jnp.zeros_like(out.opacity)
    return RenderOutput(
        rgb=out.albedo,
        albedo=out.albedo,
        opacity=out.opacity,
        depth=out.depth,
        normals=jnp.zeros_like(out.normals),
        orientation=zeros,
    )


def _tighten(
    rays: Rays, occupied: Bool[np.ndarray, "n n n"], radius: float, block: int = 16384
) -> tuple[Rays, Bool[np.ndarray, "rays"]]:
    """Moves near and far to the first and last occupied cell; tells which rays meet any."""
    n = occupied.shape[0]
    steps = 2 * n  # half a cell at most between two looks; the margin covers the rest
    fractions = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    near, far, hit = rays.near.copy(), rays.far.copy(), np.zeros(len(rays.near), bool)
    for start in range(0, len(near), block):
        cut = slice(start, start + block)
        length = (rays.far[cut] - rays.near[cut])[:, None]
        distance = rays.near[cut, None] + length * fractions
        points = rays.origins[cut, None] + distance[..., None] * rays.directions[cut, None]
        index = np.rint((points + radius) * ((n - 1) / (2 * radius))).astype(np.int32)
        index = np.clip(index, 0, n - 1)
        full = occupied[index[..., 0], index[..., 1], index[..., 2]] & (length > 0)
        first, last = full.argmax(axis=1), steps - 1 - full[:, ::-1].argmax(axis=1)
        hit[cut] = full.any(axis=1)
        near[cut] = rays.near[cut] + length[:, 0] * (first / steps)
        far[cut] = rays.near[cut] + length[:, 0] * ((last + 1) / steps)
    return rays.replace(near=near.astype(np.float32), far=far.astype(np.float32)), hit


def _scatter(parts: tuple[Array, ...], active: np.ndarray, shape: tuple[int, int, int]):
    values = np.concatenate(parts)
    whole = np.zeros((int(np.prod(shape)), *values.shape[1:]), values.dtype)
    whole[active] = values
    return whole.reshape(*shape, *values.shape[1:])
