"""From a density to the first distances of a mesh: between the stages of a run."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.base import Scene, Step
from dreamfusion_jax.scene.convert import Fit, shapes, taken_over
from dreamfusion_jax.scene.mesh.scene import MeshScene

_EMPTY = 1e-4  # an optical thickness
_FLAT = 0.2  # the slope of its logarithm a cell
_DIRECTIONS = [d for d in itertools.product((-1, 0, 1), repeat=3) if any(d)]


@register("convert", "surface")
@dataclasses.dataclass(frozen=True)
class ToSurface(Fit):
    """Begin a mesh where the density of the old scene hides what is behind it.

    The surface is where a cube of the grid has an optical thickness of `thickness`; what is not
    seen from outside counts as inside, so that nothing is spent on the walls of hollows. Field and
    background are taken over; a field of another shape is fitted to the old colors as "fit" does.
    """

    thickness: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_within(self, thickness=(1e-4, 1e4))

    def __call__(self, old: Scene, params: Any, new: Scene, step: Step, key: Key[Array, ""]) -> Any:
        """Return parameters of the new scene, which must be a mesh.

        Raises:
          UserError: it is none.
        """
        if not isinstance(new, MeshScene):
            raise UserError('The convert "surface" makes a scene whose name is "mesh".')
        init_key, points_key = jax.random.split(key)
        start = taken_over(params, new.init(init_key))
        corners = new.grid()
        density = old.at_points(params, corners.reshape(-1, 3), step).density
        density = density.reshape(corners.shape[:-1])
        inside_sphere = jnp.sum(corners**2, -1) < old.radius**2
        density = jnp.where(inside_sphere, density, 0.0)
        distance = self.distances(density * new.cell) * new.cell
        start["surface"] = new.surface_params(distance)
        if shapes(start["field"]) == shapes(params.get("field")):
            return start
        fitted = self.fitted(old, params, new, start, step, points_key)
        return {**start, "field": fitted["field"]}

    def distances(self, thickness: Float[Array, "n n n"]) -> Float[Array, "n n n"]:
        """Return distances to the surface in cells, of the optical thickness of a cell each.

        The logarithm of a density is nearly linear across a surface: its slope makes it a distance.
        """
        above = jnp.log(thickness + _EMPTY) - math.log(self.thickness)
        slope = jnp.sqrt(sum(_difference(above, axis) ** 2 for axis in range(3)) + _FLAT**2)
        distance = -above / slope
        return jnp.where(seen_from_outside(thickness), distance, -jnp.abs(distance))


def _difference(values: Float[Array, "n n n"], axis: int) -> Float[Array, "n n n"]:
    """Return the greater slope of the two sides."""
    step = jnp.abs(jnp.diff(values, axis=axis))
    sides = [[(0, 0)] * axis + [pad] + [(0, 0)] * (2 - axis) for pad in ((1, 0), (0, 1))]
    return jnp.maximum(*(jnp.pad(step, side) for side in sides))


def seen_from_outside(thickness: Float[Array, "n n n"]) -> Bool[Array, "n n n"]:
    """Return which places more than half of the light reaches from any of 26 directions.

    Args:
      thickness: optical, of a cell at each place.
    """
    seen = jnp.zeros(thickness.shape, bool)
    for direction in _DIRECTIONS:
        axis = next(i for i in range(3) if direction[i])
        length = math.sqrt(sum(d * d for d in direction))
        shift = [d * direction[axis] for i, d in enumerate(direction) if i != axis]

        def layer(before, own, shift=shift, length=length):
            return _shifted(before + own * length, shift), before < math.log(2)

        layers = jnp.moveaxis(thickness, axis, 0)
        start = jnp.zeros_like(layers[0])
        _, reached = jax.lax.scan(layer, start, layers, reverse=direction[axis] < 0)
        seen |= jnp.moveaxis(reached, 0, axis)
    return seen


def _shifted(values: Float[Array, "n n"], shift: Sequence[int]) -> Float[Array, "n n"]:
    """Return values moved by -1, 0 or 1 along each axis, with zeros where they came from."""
    padded = jnp.pad(values, 1)
    starts = [1 - s for s in shift]
    return jax.lax.dynamic_slice(padded, starts, values.shape)
