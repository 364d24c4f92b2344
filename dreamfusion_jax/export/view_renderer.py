"""Rendering many finished views quickly: rays through empty space are not evaluated.

A grid of the scene's density tells which blocks of pixels can meet anything, and where; only the
rays of these are rendered, each between its first and last occupied cell.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.base import FINISHED, Scene, Step
from dreamfusion_jax.scene.lights import albedo_light
from dreamfusion_jax.scene.nerf import NerfScene, Prepared, prepare_with_grid, render_prepared
from dreamfusion_jax.scene.occupancy import DensityGrid, occupied, of_cells
from dreamfusion_jax.scene.rays import along, cast_rays, pixel_rays
from dreamfusion_jax.types import Camera, Light

_BLOCKS = (8, 4, 2, 1)  # pixels a side
_PIXELS_PER_DRAWING = 2**18  # of scenes that draw views themselves, in one call
_MARGIN = 2  # cells around what is occupied that count as occupied


def grid_points(
    low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"], shape: tuple[int, int, int]
) -> Float[np.ndarray, "points 3"]:
    """Return points of a regular grid from corner to corner, flattened in index order."""
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, shape, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


@dataclasses.dataclass(frozen=True)
class Moment:
    """A scene that draws its views itself, as it is at a step."""

    params: Any
    step: int


Ready: TypeAlias = Prepared | Moment


def prepare_views(scene: Scene, params: dict, step: int = FINISHED, *, cells: int = 64) -> Ready:
    """Make a scene ready for all renderings of it, as it is at a step.

    Raises:
      UserError: it holds numbers that are not finite.
    """
    if not isinstance(scene, NerfScene):
        _check_finite(jax.tree.leaves(jax.device_get(params)))
        return Moment(params, step)
    ready = prepare_with_grid(scene, params, step, cells)
    _check_finite([ready.grid.log_density])
    return ready


def _check_finite(arrays: Sequence[Any]) -> None:
    if not all(np.isfinite(x).all() for x in arrays):
        raise UserError(
            "The scene holds numbers that are not finite; go back to an older checkpoint "
            "or run again with a smaller config.optim.learning_rate."
        )


def occupied_cells(scene: NerfScene, grid: DensityGrid) -> Bool[np.ndarray, "n n n"]:
    """Return which cells density matters in, with a margin of one."""
    return np.asarray(_occupied(grid, scene.radius, 1))


_occupied = jax.jit(occupied, static_argnums=(1, 2))


@dataclasses.dataclass(frozen=True)
class RenderedImages:
    """Views of a scene over black: colors, depths and normals are premultiplied by opacity.

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
    step: int = FINISHED,
    prepared: Ready | None = None,
    lights: Light | None = None,
    normals: bool = True,
    chunk: int = 8192,
    before_chunk: Callable[[], None] | None = None,
) -> RenderedImages:
    """Render a batch of views.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      cameras: a batch of views.
      size: width and height in pixels.
      step: of the run, for what is annealed.
      prepared: from `prepare_views`; None makes it.
      lights: one per view; None shows the albedo.
      normals: False leaves out all that needs the field's gradient: normals are then
        zero and rgb is the albedo.
      chunk: rays per call of the compiled program, which bounds the memory.
      before_chunk: called before each of them; what it raises ends the rendering.
    """
    ready = prepare_views(scene, params, step) if prepared is None else prepared
    count = cameras.focal.shape[0]
    lights = albedo_light((count,)) if lights is None else lights
    if isinstance(ready, Moment):
        return _drawn(scene, ready, cameras, lights, size, normals, before_chunk)
    assert isinstance(scene, NerfScene) and ready.grid is not None  # as `prepare_views` makes them
    scene = dataclasses.replace(scene, sampler=scene.sampler.for_images())
    pixels, near, far = _pixels_to_render(scene, cameras, size, ready.grid)
    parts: list[Any] = []
    for start in range(0, max(len(pixels), 1), chunk):
        if before_chunk is not None:
            before_chunk()
        part = slice(start, start + chunk)
        some = [np.resize(x[part], chunk) for x in (pixels, near, far)]
        out = _render_chunk(scene, ready, cameras, lights, size, normals, *some)
        parts.append([x[: len(pixels[part])] for x in out])
    # All calls are under way before the first result is asked for.
    parts = jax.device_get(parts)
    shape = (count, size, size)
    return RenderedImages(*(_scatter(pieces, pixels, shape) for pieces in zip(*parts, strict=True)))


def _drawn(
    scene: Scene,
    moment: Moment,
    cameras: Camera,
    lights: Light,
    size: int,
    normals: bool,
    before_chunk: Callable[[], None] | None,
) -> RenderedImages:
    """Return views that the scene draws itself, several at a time."""
    count = cameras.focal.shape[0]
    together = min(count, max(1, _PIXELS_PER_DRAWING // size**2))
    parts = []
    for start in range(0, count, together):
        if before_chunk is not None:
            before_chunk()
        index = np.minimum(np.arange(start, start + together), count - 1)
        some = jax.tree.map(lambda x, i=index: x[i], (cameras, lights))
        out = _draw(scene, moment.params, *some, moment.step, size)
        kept = jax.device_get(out)
        parts.append([x[: count - start] for x in kept])
    rgb, albedo, opacity, depth, directions = (
        np.concatenate(pieces) for pieces in zip(*parts, strict=True)
    )
    if not normals:
        rgb, directions = albedo, np.zeros_like(directions)
    return RenderedImages(rgb, albedo, opacity, depth, directions)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _draw(
    scene: Scene, params: Any, cameras: Camera, lights: Light, step: Step, size: int
) -> tuple[Array, ...]:
    out = scene.draw(params, cameras, lights, image_size=size, step=step)
    return out.rgb[..., :3], out.albedo[..., :3], out.opacity, out.depth, out.normals


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _render_chunk(
    scene: NerfScene,
    ready: Prepared,
    cameras: Camera,
    lights: Light,
    size: int,
    normals: bool,
    pixels: Int[Array, "rays"],
    near: Float[Array, "rays"],
    far: Float[Array, "rays"],
) -> tuple[Array, ...]:
    view, inside = pixels // size**2, pixels % size**2
    camera = jax.tree.map(lambda x: x[view], cameras)
    rays = jax.vmap(functools.partial(pixel_rays, size=size, radius=scene.radius))(camera, inside)
    near, far = (jnp.clip(x, rays.near, rays.far) for x in (near, far))
    rays = dataclasses.replace(rays, near=near, far=far)
    # Every ray counts as a view with a light of its own.
    light = jax.tree.map(lambda x: x[view], lights)
    black = jnp.zeros_like(rays.origins)
    out = render_prepared(scene, ready, rays, light, black, None, normals=normals)
    out = dataclasses.replace(out, rgb=out.rgb[..., :3], albedo=out.albedo[..., :3])
    rgb = out.rgb if normals else out.albedo
    return rgb, out.albedo, out.opacity, out.depth, out.normals


def _pixels_to_render(
    scene: NerfScene, cameras: Camera, size: int, grid: DensityGrid
) -> tuple[Int[np.ndarray, "rays"], Float[np.ndarray, "rays"], Float[np.ndarray, "rays"]]:
    """Return the pixels, numbered through all views, that can meet anything, with near and far.

    One ray stands for a block of pixels that is no wider, there, than the margin of the cells.
    """
    cell = 2 * scene.radius / (grid.log_density.shape[0] - 1)
    distance = np.linalg.norm(np.asarray(cameras.position), axis=-1) + scene.radius
    pixel = float(np.max(distance / np.asarray(cameras.focal))) / size
    block = next(b for b in _BLOCKS if size % b == 0 and (b * pixel < cell or b == 1))
    near, far, hit = (np.asarray(x) for x in _march(cameras, size // block, scene.radius, grid))
    near, far = (np.repeat(np.repeat(x, block, 1), block, 2).ravel() for x in (near, far))
    pixels = np.flatnonzero(np.repeat(np.repeat(hit, block, 1), block, 2))
    return pixels.astype(np.int32), near[pixels], far[pixels]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _march(
    cameras: Camera, size: int, radius: float, grid: DensityGrid
) -> tuple[Array, Array, Array]:
    """Return near and far at each ray's first and last occupied cell, and whether there is any."""
    cells = occupied(grid, radius, _MARGIN)
    steps = 2 * len(cells)  # half a cell at most between two looks; the margin covers the rest
    fractions = (jnp.arange(steps) + 0.5) / steps

    def march(camera):
        rays = cast_rays(camera, size, radius)
        length = rays.far - rays.near
        points = along(rays, rays.near[..., None] + length[..., None] * fractions)
        full = of_cells(cells, points, radius) & (length[..., None] > 0)
        first = jnp.argmax(full, axis=-1)
        last = steps - jnp.argmax(full[..., ::-1], axis=-1)
        near, far = (rays.near + length * (x / steps) for x in (first, last))
        return near, far, jnp.any(full, axis=-1)

    return jax.lax.map(march, cameras)


def _scatter(parts: Sequence[np.ndarray], active: np.ndarray, shape: tuple[int, int, int]):
    values = np.concatenate(parts)
    whole = np.zeros((int(np.prod(shape)), *values.shape[1:]), values.dtype)
    whole[active] = values
    return whole.reshape(*shape, *values.shape[1:])
