"""Rays through pixel centers, bounded by a sphere around the origin."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dreamfusion_jax.types import Camera, Rays


def cast_rays(camera: Camera, size: int, radius: float) -> Rays:
    """Return the rays of a `size` x `size` image; batch shape [size, size], row 0 on top.

    Args:
      camera: one camera (no batch dimension).
      size: image width and height in pixels.
      radius: radius of the bounding sphere; rays that miss it get near == far == 0.
    """
    offset = (jnp.arange(size) + 0.5) / size - 0.5
    x, y = jnp.meshgrid(offset, -offset)
    return _rays(camera, x, y, radius)


def pixel_rays(camera: Camera, pixels: Int[Array, "*batch"], size: int, radius: float) -> Rays:
    """Return some rays of `cast_rays`, by the number of their pixel, row by row."""
    row, column = pixels // size, pixels % size
    return _rays(camera, (column + 0.5) / size - 0.5, 0.5 - (row + 0.5) / size, radius)


def _rays(camera: Camera, x: Float[Array, "*batch"], y: Float[Array, "*batch"], radius) -> Rays:
    in_camera = jnp.stack([x, y, -camera.focal * jnp.ones_like(x)], axis=-1)
    # Not rounded to 8 bits on accelerators: that would tilt rays by half a pixel.
    rotate = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    directions = rotate("...c,wc->...w", in_camera, camera.rotation)
    directions = directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)
    origins = jnp.broadcast_to(camera.position, directions.shape)
    near, far = intersect_sphere(origins, directions, radius)
    return Rays(origins=origins, directions=directions, near=near, far=far)


def intersect_sphere(
    origins: Float[Array, "*batch 3"], directions: Float[Array, "*batch 3"], radius: float
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Return entry and exit distances (>= 0) of the sphere around the origin; both 0 on a miss."""
    middle = -jnp.sum(origins * directions, axis=-1)
    half_squared = middle**2 - jnp.sum(origins**2, axis=-1) + radius**2
    half = jnp.sqrt(jnp.maximum(half_squared, 0.0))
    near, far = jnp.maximum(middle - half, 0.0), jnp.maximum(middle + half, 0.0)
    hit = half_squared > 0
    return jnp.where(hit, near, 0.0), jnp.where(hit, far, 0.0)


def along(rays: Rays, distances: Float[Array, "*rays samples"]) -> Float[Array, "*rays samples 3"]:
    """Return the points at distances along rays."""
    return rays.origins[..., None, :] + distances[..., None] * rays.directions[..., None, :]
