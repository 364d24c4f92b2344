"""Multi-resolution hash encoding with a small decoder (Instant-NGP, Mueller et al. 2022)."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.base import Step
from dreamfusion_jax.scene.fields.base import Field, Number, density_of, outward
from dreamfusion_jax.scene.fields.interpolation import (
    CORNERS,
    corner_weights,
    weighted_rows,
)
from dreamfusion_jax.types import FieldOutput

_PRIMES = (1, 2_654_435_761, 805_459_861)  # of the spatial hash, Instant-NGP Eq. 4
_MAX_CELLS = 2**20


@register("field", "hash_grid")
class HashGridField(Field):
    """Features of `levels` grids, from `base_cells` to `cells` an axis, decoded by an MLP.

    A level that has more corners than its table's 2^`log2_table` rows shares rows among corners by
    a hash; the others are dense. The decoder has `hidden_layers` of `width` units; 0 is a linear
    map. The Gaussian around a point damps the levels that are finer than it, as it damps the
    octaves of the paper's encoding.

    Normals are central differences over `normal_step` of the scene's radius: the interpolation's
    own derivative jumps from cell to cell.
    """

    levels: int = 12
    base_cells: int = 16
    cells: int = 512
    features: int = 2
    log2_table: int = 17
    width: int = 32
    hidden_layers: int = 1
    normal_step: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        check_within(
            self,
            levels=(1, 32),
            base_cells=(1, _MAX_CELLS),
            cells=(1, _MAX_CELLS),
            features=(1, 16),
            log2_table=(4, 24),
            width=(1, 8192),
            hidden_layers=(0, 64),
        )
        if self.cells < self.base_cells:
            raise ValueError(
                f"cells is {self.cells}; it must be at least base_cells, {self.base_cells}."
            )
        if not 0 < self.normal_step < 1:
            raise ValueError(f"normal_step is {self.normal_step}; it must be within 0 and 1.")

    @nn.compact
    def __call__(
        self, mean: Float[Array, "*batch 3"], variance: Number, step: Step
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch channels"]]:
        """Return log density and albedo in [0, 1] of Gaussians N(mean, variance I)."""
        flat = mean.reshape(-1, 3)
        features = []
        for level in range(self.levels):
            cells = self.cells_of(level)
            rows = min((cells + 1) ** 3, 2**self.log2_table)
            start = nn.initializers.uniform(2e-4)
            table = self.param(f"level{level}", start, (rows, self.features))
            # A wave of four cells keeps exp(-omega^2 variance / 2) of its height.
            omega = math.pi * cells / (4 * self.radius)
            damping = jnp.exp(-0.5 * omega**2 * jnp.asarray(variance))
            features.append(damping * interpolate_hashed(table, flat, self.radius, cells))
        h = jnp.concatenate(features, axis=-1)
        for i in range(self.hidden_layers):
            h = nn.relu(nn.Dense(self.width, name=f"hidden{i}")(h))
        heads = nn.Dense(1 + self.channels, name="heads")(h)
        heads = heads.reshape(*mean.shape[:-1], -1)
        return self.with_blob(heads[..., 0], mean), nn.sigmoid(heads[..., 1:])

    @nn.nowrap
    def cells_of(self, level: int) -> int:
        """Return how many cells an axis a level has: a geometric series (Instant-NGP Eq. 2)."""
        growth = (self.cells / self.base_cells) ** (1 / max(self.levels - 1, 1))
        return round(self.base_cells * growth**level)

    @nn.nowrap
    def query(
        self, prepared: Any, points: Float[Array, "*batch 3"], *, normals=True
    ) -> FieldOutput:
        """Return density, albedo and, if wanted, normals at points."""
        if not normals:
            return super().query(prepared, points, normals=False)
        spacing = self.normal_step * self.radius

        def some(flat):
            offsets = spacing * jnp.concatenate([jnp.eye(3), -jnp.eye(3)])
            around = (flat[:, None] + offsets).reshape(-1, 3)
            log_density, albedo = self._at(prepared, flat)
            beside = self._at(prepared, around)[0].reshape(-1, 2, 3)
            gradient = (beside[:, 0] - beside[:, 1]) / (2 * spacing)
            density = density_of(log_density)
            return FieldOutput(density=density, albedo=albedo, normals=outward(gradient))

        return self.in_chunks(some, points)


def interpolate_hashed(
    table: Float[Array, "rows features"],
    points: Float[Array, "points 3"],
    radius: float,
    cells: int,
) -> Float[Array, "points features"]:
    """Interpolate features at points of the cube [-radius, radius]^3 of `cells` cells an axis."""
    places = jnp.clip((points + radius) * (cells / (2 * radius)), 0.0, float(cells))
    corner = jnp.clip(jnp.floor(places).astype(jnp.int32), 0, cells - 1)
    index = [row_of(corner + jnp.array(offset), cells, len(table)) for offset in CORNERS]
    weights = corner_weights(places - corner)
    return weighted_rows(table, jnp.stack(index), jnp.stack(weights))


def row_of(corner: Int[Array, "points 3"], cells: int, rows: int) -> Int[Array, "points"]:
    """Return the rows of corners: their index where each has a row, else a spatial hash."""
    if rows == (cells + 1) ** 3:
        return (corner[:, 0] * (cells + 1) + corner[:, 1]) * (cells + 1) + corner[:, 2]
    hashed: UInt32[Array, points] = jnp.zeros(len(corner), jnp.uint32)
    for axis, prime in enumerate(_PRIMES):
        hashed ^= corner[:, axis].astype(jnp.uint32) * jnp.uint32(prime)
    return (hashed % jnp.uint32(rows)).astype(jnp.int32)
