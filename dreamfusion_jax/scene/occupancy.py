"""A coarse grid of a scene's density, kept beside the field: where there is anything to see."""

import math
from typing import Any

import distrax
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dreamfusion_jax.scene.fields.base import Field
from dreamfusion_jax.scene.fields.interpolation import gather_trilinear, grid_coordinates

# A density that hides less than this share of a ray across the whole scene is empty space.
NEGLIGIBLE_OPACITY = 0.02


@flax.struct.dataclass
class DensityGrid:
    """Densities at the corners of the cells of the cube around the scene, between them linear."""

    density: Float[Array, "*batch rows rows rows"]


def fit_density_grid(
    field: Field,
    prepared: Any,
    cells: int,
    variance: float | Float[Array, ""],
    key: Key[Array, ""] | None = None,
) -> DensityGrid:
    """Return the grid of a field's density, 0 outside the bounding sphere.

    Args:
      field: the module.
      prepared: of `field.prepare`.
      cells: an axis.
      variance: of the Gaussians around the points.
      key: moves every corner by up to half a cell; None leaves them where they are.
    """
    rows, radius = cells + 1, field.radius
    axis = jnp.linspace(-radius, radius, rows)
    points = jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    reach = radius / cells  # half a cell
    outside = jnp.sum(points**2, -1) > (radius + 2 * reach) ** 2
    if key is not None:
        points += distrax.Uniform(-reach, reach).sample(seed=key, sample_shape=points.shape)
    density = jnp.where(outside, 0.0, field.density(prepared, points, variance))
    return DensityGrid(density.reshape(rows, rows, rows))


def refresh_density_grid(
    grid: DensityGrid,
    field: Field,
    params: Any,
    variance: float | Float[Array, ""],
    key: Key[Array, ""],
    *,
    decay: float,
) -> DensityGrid:
    """Return max(decay old, new): all of the grid is looked at, so that nothing stays unseen.

    What thin parts a look misses another one finds, as its points are drawn anew, and it is
    remembered for some time (Instant-NGP, appendix C).
    """
    field_params = jax.lax.stop_gradient(params)
    prepared = field.prepare(field_params, variance)
    new = fit_density_grid(field, prepared, grid.density.shape[-1] - 1, variance, key)
    return DensityGrid(jnp.maximum(decay * grid.density, new.density))


def look_up(
    grid: DensityGrid, points: Float[Array, "*batch 3"], radius: float
) -> Float[Array, "*batch"]:
    """Return the grid's density at points of the cube [-radius, radius]^3."""
    flat = grid_coordinates(points.reshape(-1, 3), radius, grid.density.shape[-1])
    (found,) = gather_trilinear([grid.density[..., None]], flat)
    return found.reshape(points.shape[:-1])


def negligible_density(radius: float) -> float:
    """Return the density below which space counts as empty."""
    return -math.log1p(-NEGLIGIBLE_OPACITY) / (2 * radius)
