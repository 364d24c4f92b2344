"""Where a ray is sampled: by a coarse pass through the field, or by a grid of its density."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.fields.base import Field
from dreamfusion_jax.scene.occupancy import (
    DensityGrid,
    fit_density_grid,
    look_up,
    negligible_density,
    refresh_density_grid,
)
from dreamfusion_jax.scene.rays import along
from dreamfusion_jax.scene.sampling import (
    blur_pool,
    fine_edges,
    stratified_points,
    uniform_edges,
)
from dreamfusion_jax.scene.volume import rendering_weights
from dreamfusion_jax.types import Rays

_MOST = 4096  # samples on a ray


@flax.struct.dataclass
class Samples:
    """The intervals of rays, and how much each is expected to be seen; None: all of them."""

    t_vals: Float[Array, "*rays t_vals"]
    importance: Float[Array, "*rays samples"] | None


class Sampler(abc.ABC):
    """Places the samples of rays. A grid of densities, where it keeps one, is part of the state."""

    budget: float = 1.0  # the share of samples that are evaluated

    @abc.abstractmethod
    def place(
        self,
        field: Field,
        prepared: Any,
        grid: DensityGrid | None,
        rays: Rays,
        key: Key[Array, "*views"] | None,
    ) -> Samples:
        """Return the samples of rays; nothing flows back through them.

        Args:
          field: the module.
          prepared: of `field.prepare`.
          grid: what `initial_grid` and `refresh` have made.
          rays: any batch; with several keys the views are the leading dimension.
          key: jitters the samples, one or one for each view; None leaves them fixed.
        """

    def initial_grid(self, field: Field, prepared: Any) -> DensityGrid | None:
        """Return the grid before the first step, None where there is none."""
        return None

    def refresh(
        self,
        grid: DensityGrid | None,
        field: Field,
        prepared: Any,
        key: Key[Array, ""],
    ) -> DensityGrid | None:
        """Return the grid after another look at the field."""
        return grid

    @property
    def refresh_every(self) -> int:
        """Steps between two looks at the field; 0 is never."""
        return 0

    def for_images(self) -> "Sampler":
        """Return the sampler of finished pictures, whose rays are bounded by what is occupied."""
        return self


@register("sampler", "hierarchical")
@dataclasses.dataclass(frozen=True)
class HierarchicalSampler(Sampler):
    """NeRF's: `coarse_samples` through the field tell where `fine_samples` intervals go."""

    coarse_samples: int = 64
    fine_samples: int = 64

    def __post_init__(self):
        check_within(self, coarse_samples=(1, _MOST), fine_samples=(1, _MOST))

    def place(self, field, prepared, grid, rays, key) -> Samples:
        """Return intervals that are short where the coarse pass has met density."""
        # The coarse pass only says where to look: no gradient, no albedo, no normals.
        frozen = jax.lax.stop_gradient(prepared)
        t_vals = uniform_edges(rays, self.coarse_samples)
        points = along(rays, _with_keys(stratified_points, t_vals, key=key))
        density = field.density(frozen, points)
        weights = rendering_weights(density, jnp.diff(t_vals, axis=-1))
        return Samples(_fine(t_vals, weights, key, self.fine_samples), None)


@register("sampler", "density_grid")
@dataclasses.dataclass(frozen=True)
class DensityGridSampler(Sampler):
    """Looks `coarse_samples` times into a grid of `cells`^3 cells, and not through the field.

    Every `every` steps the grid becomes max(decay grid, the field's density). Only the samples that
    are expected to be seen are evaluated, at most a `budget` of all: the most important
    ones first, and where fewer matter, others at random, so that new parts can appear.
    """

    cells: int = 64
    coarse_samples: int = 48
    fine_samples: int = 16
    every: int = 8
    decay: float = 0.9
    budget: float = 0.5

    # An interval of the coarse pass hides at most this share of what is behind it: the grid
    # is coarser than the field, and where it sees a wall there may be a gap.
    MOST_HIDDEN = 0.9
    LEAST_IMPORTANCE = 1e-3

    def __post_init__(self):
        check_within(
            self,
            cells=(4, 512),
            coarse_samples=(1, _MOST),
            fine_samples=(1, _MOST),
            every=(1, 10**6),
        )
        for name, value in (("decay", self.decay), ("budget", self.budget)):
            if not 0 <= value <= 1 or value == 0 and name == "budget":
                raise ValueError(f"{name} is {value}; it must be a share of 1.")

    def place(self, field, prepared, grid, rays, key) -> Samples:
        """Return intervals that are short where the grid holds density, and their importance."""
        frozen = jax.lax.stop_gradient(grid)
        t_vals = uniform_edges(rays, self.coarse_samples)
        points = along(rays, _with_keys(stratified_points, t_vals, key=key))
        density = look_up(frozen, points, field.radius)
        density = jnp.where(density < negligible_density(field.radius), 0.0, density)
        hidden = jnp.minimum(density * jnp.diff(t_vals, axis=-1), -math.log1p(-self.MOST_HIDDEN))
        weights = rendering_weights(hidden, jnp.ones_like(hidden))
        fine = _fine(t_vals, weights, key, self.fine_samples)
        return Samples(fine, self._importance(rays, blur_pool(weights), fine))

    def _importance(self, rays: Rays, weights: Array, fine: Array) -> Array:
        """Return the coarse weight of the interval in which each sample lies."""
        middle = 0.5 * (fine[..., 1:] + fine[..., :-1])
        length = jnp.maximum(rays.far - rays.near, 1e-6)[..., None]
        place = (middle - rays.near[..., None]) / length * self.coarse_samples
        index = jnp.clip(place.astype(jnp.int32), 0, self.coarse_samples - 1)
        found = jnp.take_along_axis(weights, index, axis=-1)
        return jnp.where(found > self.LEAST_IMPORTANCE, found, 0.0)

    def initial_grid(self, field: Field, prepared: Any) -> DensityGrid:
        """Return the density of the field as it begins, without annealing."""
        return fit_density_grid(field, prepared, self.cells)

    def refresh(self, grid, field, prepared, key) -> DensityGrid:
        """Return max(decay grid, the field's density at points that are drawn anew)."""
        return refresh_density_grid(grid, field, prepared, key, decay=self.decay)

    @property
    def refresh_every(self) -> int:
        """Steps between two looks at the field."""
        return self.every

    def for_images(self) -> "DensityGridSampler":
        """Return the sampler without a budget; half the looks are enough within the bounds."""
        coarse = max(self.coarse_samples // 2, 1)
        return dataclasses.replace(self, budget=1.0, coarse_samples=coarse)


def _fine(
    t_vals: Array, weights: Array, key: Key[Array, "*views"] | None, intervals: int
) -> Float[Array, "*rays t_vals"]:
    place = functools.partial(fine_edges, intervals=intervals)
    fine_key = None if key is None else _with_keys(lambda k: jax.random.fold_in(k, 1), key=key)
    return _with_keys(lambda e, w, key: place(e, w, key), t_vals, weights, key=fine_key)


def _with_keys(function: Callable, *arrays: Array, key: Key[Array, "*views"] | None) -> Array:
    """function(*arrays, key), mapped over the views if there is a key for each."""
    if key is None or key.ndim == 0:
        return function(*arrays, key)
    return jax.vmap(function)(*arrays, key)
