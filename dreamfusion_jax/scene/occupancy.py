"""A coarse grid of a scene's density, kept beside the field: where there is anything to see."""

import functools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Shaped

from dreamfusion_jax.distributions import Uniform
from dreamfusion_jax.scene.fields.base import Field, density_of
from dreamfusion_jax.scene.fields.interpolation import gather_trilinear, grid_coordinates

# A density that hides less than this share of a ray across the whole scene is empty space.
NEGLIGIBLE_OPACITY = 0.02
EMPTY = -20.0  # the log density of nothing


@flax.struct.dataclass
class DensityGrid:
    """Log densities at the corners of the cells of the cube around the scene, linear between.

    `log_density` has the shape (*batch, rows, rows, rows). It is not checked, as checkpoints are
    read into grids of what stands for an array.
    """

    log_density: Any


def fit_density_grid(
    field: Field,
    prepared: Any,
    cells: int,
    key: Key[Array, ""] | None = None,
) -> DensityGrid:
    """Return the grid of a field's density, as good as empty outside of the bounding sphere.

    Args:
      field: the module.
      prepared: of `field.prepare`.
      cells: an axis.
      key: moves every point by up to half a cell; None leaves them at the corners.
    """
    radius, reach = field.radius, field.radius / cells  # half a cell
    axis = jnp.linspace(-radius, radius, cells + 1)
    points = jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    outside = jnp.sum(points**2, -1) > (radius + 2 * math.sqrt(3) * reach) ** 2
    if key is not None:
        points += Uniform(-reach, reach).sample(seed=key, sample_shape=points.shape)
    density = field.density(prepared, points.reshape(-1, 3)).reshape(outside.shape)
    return DensityGrid(jnp.where(outside, EMPTY, jnp.log(density + math.exp(EMPTY))))


def refresh_density_grid(
    grid: DensityGrid,
    field: Field,
    prepared: Any,
    key: Key[Array, ""],
    *,
    decay: float,
) -> DensityGrid:
    """Return max(decay old, new), new at points that are drawn anew.

    All cells are looked at, so that nothing stays unseen; what thin parts a look misses another
    one finds, and it is remembered for some time (Instant-NGP, appendix C). With a decay of 0
    nothing is remembered, and the points are the corners.
    """
    cells = grid.log_density.shape[-1] - 1
    new = fit_density_grid(field, prepared, cells, key if decay else None)
    if not decay:
        return new
    remembered = grid.log_density + math.log(decay)
    return DensityGrid(jnp.maximum(remembered, new.log_density))


def look_up(
    grid: DensityGrid, points: Float[Array, "*batch 3"], radius: float
) -> Float[Array, "*batch"]:
    """Return the grid's density at points of the cube [-radius, radius]^3."""
    places = grid_coordinates(points.reshape(-1, 3), radius, grid.log_density.shape[-1])
    (found,) = gather_trilinear([grid.log_density[..., None]], places)
    return density_of(found[:, 0]).reshape(points.shape[:-1])


def of_cells(
    values: Shaped[Array, "n n n"], points: Float[Array, "*batch 3"], radius: float
) -> Shaped[Array, "*batch"]:
    """Return the values of the cells in which points of the cube [-radius, radius]^3 lie."""
    n = len(values)
    cell = ((points + radius) * (n / (2 * radius))).astype(jnp.int32)
    x, y, z = (jnp.clip(cell[..., axis], 0, n - 1) for axis in range(3))
    return values.reshape(-1).at[(x * n + y) * n + z].get(mode="promise_in_bounds")


def occupied(grid: DensityGrid, radius: float, margin: int) -> Bool[Array, "n n n"]:
    """Return which cells have a corner that is not empty, and cells within a margin of them."""
    full = grid.log_density > math.log(negligible_density(radius))
    for axis in range(3):
        # A cell has two corners along an axis.
        n = full.shape[axis] - 1
        widths = [(margin, margin) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(full, widths)
        parts = (jax.lax.slice_in_dim(padded, i, i + n, axis=axis) for i in range(2 * margin + 2))
        full = functools.reduce(jnp.logical_or, parts)
    return full


def negligible_density(radius: float) -> float:
    """Return the density below which space counts as empty."""
    return -math.log1p(-NEGLIGIBLE_OPACITY) / (2 * radius)
