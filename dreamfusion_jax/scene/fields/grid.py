"""A field without a network: a pyramid of dense grids (as in Plenoxels, Fridovich-Keil 2022)."""

import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.base import FINISHED, Step
from dreamfusion_jax.scene.fields.base import Field, Number, density_of, outward
from dreamfusion_jax.scene.fields.interpolation import (
    central_differences,
    gather_trilinear,
    grid_coordinates,
    product_trilinear,
    refine,
    smooth,
)
from dreamfusion_jax.types import FieldOutput

_FINEST = 512  # cells an axis: half a billion numbers a channel


@flax.struct.dataclass
class GridTables:
    """What a rendering reads: log density (before the blob), albedo before its sigmoid, normals.

    `gradient` has a fourth column of zeros: rows of whole registers.
    """

    density: Float[Array, "rows rows rows 1"]
    values: Float[Array, "rows rows rows values"]
    gradient: Float[Array, "rows rows rows 4"]


@register("field", "grid")
class GridField(Field):
    """Log density and albedo on the corners of `cells`^3 cells of the cube around the scene.

    The grid is the sum of `levels` grids, each with half the cells of the next, enlarged linearly:
    coarse levels learn fast and reach everywhere, fine ones add detail. The Gaussian around a
    point damps the levels that are finer than it, as it damps the octaves of the paper's
    encoding: while lambda_Sigma is annealed the scene grows from coarse to fine.

    Normals are central differences of the opacity of a cell, blurred `smoothing` times: smooth
    where the density itself is rough.

    `by_products` evaluates it with matrix products (for TPUs) and not with gathers.
    """

    cells: int = 64
    levels: int = 4
    smoothing: int = 1
    by_products: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_within(self, cells=(2, _FINEST), levels=(1, 10), smoothing=(0, 100))
        coarsest = 2 ** (self.levels - 1)
        if self.cells % coarsest:
            raise ValueError(
                f"cells is {self.cells}; it must be divisible by {coarsest}, for {self.levels} "
                "levels."
            )

    @nn.compact
    def grid(self, variance: Number) -> Float[Array, "rows rows rows values"]:
        """Return the sum of all levels: values before the blob and the sigmoid."""
        total: Any = None
        for level in range(self.levels):
            cells = self.cells >> (self.levels - 1 - level)
            shape = (cells + 1,) * 3 + (1 + self.channels,)
            own = self.param(f"level{level}", nn.initializers.zeros, shape)
            if level:
                # A wave of four cells keeps exp(-omega^2 variance / 2) of its height.
                omega = math.pi * cells / (4 * self.radius)
                own = own * jnp.exp(-0.5 * omega**2 * jnp.asarray(variance))
            total = own if total is None else refine(total) + own
        return total

    def __call__(
        self, mean: Float[Array, "*batch 3"], variance: Number, step: Step
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch channels"]]:
        """Return log density and albedo in [0, 1] of Gaussians N(mean, variance I)."""
        (flat,) = self._interpolate([self.grid(variance)], mean.reshape(-1, 3))
        values = flat.reshape(*mean.shape[:-1], -1)
        return self.with_blob(values[..., 0], mean), nn.sigmoid(values[..., 1:])

    @nn.nowrap
    def prepare(self, params: Any, variance: Number, step: Step = FINISHED) -> GridTables:
        """Return the grid summed up, and its normals."""
        grid: Any = self.apply(params, variance, method="grid")
        density = grid[..., 0]
        return GridTables(density[..., None], grid, self._gradient(density))

    @nn.nowrap
    def density(
        self, prepared: GridTables, points: Float[Array, "*batch 3"]
    ) -> Float[Array, "*batch"]:
        """Return the density tau alone."""

        def some(flat):
            (values,) = self._interpolate([prepared.density], flat)
            return density_of(self.with_blob(values[:, 0], flat))

        return self.in_chunks(some, points)

    @nn.nowrap
    def query(
        self, prepared: GridTables, points: Float[Array, "*batch 3"], *, normals=True
    ) -> FieldOutput:
        """Return density, albedo and, if wanted, normals at points."""

        def some(flat):
            tables = [prepared.values, prepared.gradient] if normals else [prepared.values]
            values, *gradient = self._interpolate(tables, flat)
            return FieldOutput(
                density=density_of(self.with_blob(values[:, 0], flat)),
                albedo=nn.sigmoid(values[:, 1:]),
                normals=outward(gradient[0][:, :3]) if normals else None,
            )

        return self.in_chunks(some, points)

    @nn.nowrap
    def _gradient(self, log_density: Float[Array, "rows rows rows"]) -> Array:
        rows, spacing = self.cells + 1, 2 * self.radius / self.cells
        axis = jnp.linspace(-self.radius, self.radius, rows)
        corners = jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
        # The opacity of a cell, not its log density: what happens deep inside and far outside,
        # where nothing is seen, does not turn the normal.
        density = density_of(self.with_blob(log_density, corners))
        opacity = 1 - jnp.exp(-density * spacing)
        for _ in range(self.smoothing):
            opacity = smooth(opacity)
        gradient = central_differences(opacity, spacing)
        return jnp.pad(gradient, [(0, 0)] * 3 + [(0, 1)])

    @nn.nowrap
    def _interpolate(self, grids: list[Array], points: Float[Array, "points 3"]) -> list[Array]:
        places = grid_coordinates(points, self.radius, self.cells + 1)
        return (product_trilinear if self.by_products else gather_trilinear)(grids, places)
