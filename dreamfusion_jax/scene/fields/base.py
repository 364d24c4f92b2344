"""The contract of a field: position -> density and albedo."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.registry import check_within
from dreamfusion_jax.scene.base import FINISHED, Step
from dreamfusion_jax.types import FieldOutput

Number = float | Float[Array, ""]
# exp(15) per unit length is opaque within a hundred-thousandth of the scene; the
# bound only keeps float32 finite.
MAX_LOG_DENSITY = 15.0


@flax.struct.dataclass
class Annealed:
    """A field's parameters at a moment: the variance of the Gaussians, and the step of the run."""

    params: Any
    variance: Array
    step: Array


class Field(nn.Module):
    """Density and albedo of Gaussians in space.

    A field implements `__call__`; the rest follows from it. Override `prepare` where the queries
    of one rendering share work, and `query` and `density` where they are not calls of the module.

    `radius` bounds where it is asked. `blob_scale` lambda_tau and `blob_std` sigma_tau shape the
    Gaussian that is added to the density before its exp, or with `blob_after_exp` to the density
    itself, where nothing can remove it; `density_offset` shifts the logarithm of the field's own
    density everywhere (0 in the paper, negative values start from emptier space). The albedo has
    `channels`, of which the first three are its color. `points_per_chunk` bounds how many points
    are worked on at a time: their activations are computed again in the backward pass. 0 takes all
    at once.
    """

    not_in_config: ClassVar[tuple[str, ...]] = ("channels", "radius")  # the scene's to say
    channels: int = 3
    radius: float = 1.4
    blob_scale: float = 5.0
    blob_std: float = 0.2
    blob_after_exp: bool = False
    density_offset: float = 0.0
    points_per_chunk: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_within(
            self,
            blob_scale=(0 if self.blob_after_exp else -1e3, 1e3),
            blob_std=(1e-3, 1e3),
            density_offset=(-1e3, 1e3),
            points_per_chunk=(0, 2**31),
        )

    def __call__(
        self, mean: Float[Array, "*batch 3"], variance: Number, step: Step
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch channels"]]:
        """Return log density and albedo in [0, 1] of Gaussians N(mean, variance I) at a step."""
        raise TypeError(f"{type(self).__name__} has no __call__")

    @nn.nowrap
    def with_blob(
        self, head: Float[Array, "*batch"], mean: Float[Array, "*batch 3"]
    ) -> Float[Array, "*batch"]:
        """Return the log density at means: a network's output, its offset and the blob.

        The blob is lambda_tau exp(-|mu|^2 / (2 sigma_tau^2)) (paper appendix A.2).
        """
        exponent = -jnp.sum(mean**2, -1) / (2 * self.blob_std**2)
        if not self.blob_after_exp:
            return head + (self.blob_scale * jnp.exp(exponent) + self.density_offset)
        if self.blob_scale == 0:
            return head + self.density_offset
        return jnp.logaddexp(head + self.density_offset, math.log(self.blob_scale) + exponent)

    @nn.nowrap
    def prepare(self, params: Any, variance: Number, step: Step = FINISHED) -> Any:
        """Return what all queries of one rendering share; by default its arguments."""
        return Annealed(params, jnp.asarray(variance, jnp.float32), jnp.asarray(step))

    @nn.nowrap
    def density(self, prepared: Any, points: Float[Array, "*batch 3"]) -> Float[Array, "*batch"]:
        """Return the density tau alone."""

        def some(points):
            return density_of(self._at(prepared, points)[0])

        return self.in_chunks(some, points)

    @nn.nowrap
    def query(
        self,
        prepared: Any,
        points: Float[Array, "*batch 3"],
        *,
        normals: bool = True,
    ) -> FieldOutput:
        """Return density, albedo and, if wanted, normals n = -grad tau / |grad tau| at points.

        The gradient of log tau has the direction of that of tau, includes the density
        blob, and neither over- nor underflows.

        Args:
          prepared: of `prepare`.
          points: any batch of positions.
          normals: False leaves them out (None).
        """

        def bare(some):
            log_density, albedo = self._at(prepared, some)
            return FieldOutput(density=density_of(log_density), albedo=albedo, normals=None)

        def full(some):
            log_density, vjp, albedo = jax.vjp(
                lambda mean: self._at(prepared, mean), some, has_aux=True
            )
            # The barrier keeps the ones from being folded into a constant, on which the compiler
            # for TPUs fails in the backward pass (libtpu 0.0.42 and 0.0.52).
            (gradient,) = vjp(jax.lax.optimization_barrier(jnp.ones_like(log_density)))
            density = density_of(log_density)
            return FieldOutput(density=density, albedo=albedo, normals=outward(gradient))

        return self.in_chunks(full if normals else bare, points)

    @nn.nowrap
    def _at(self, prepared: "Annealed", points: Float[Array, "points 3"]) -> tuple[Array, Array]:
        """Return what `__call__` does, at points."""
        found: Any = self.apply(prepared.params, points, prepared.variance, prepared.step)
        return found

    @nn.nowrap
    def in_chunks(
        self, query: Callable[[Float[Array, "points 3"]], Any], points: Float[Array, "*batch 3"]
    ) -> Any:
        """Return query(points), evaluated on at most `points_per_chunk` points at a time."""
        # Always one flat batch: with more dimensions XLA's CPU backend copies the activations
        # to transpose them for the gradients of the weights.
        count, chunk = math.prod(points.shape[:-1]), self.points_per_chunk
        flat = points.reshape(count, 3)
        if not 0 < chunk < count:
            output = query(flat)
        else:
            padded = jnp.pad(flat, ((0, -count % chunk), (0, 0))).reshape(-1, chunk, 3)
            stacked = jax.lax.map(jax.checkpoint(query, prevent_cse=False), padded)
            output = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], stacked)
        return jax.tree.map(lambda x: x.reshape(*points.shape[:-1], *x.shape[1:]), output)


def density_of(log_density: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return tau = exp(log_density), bounded to stay finite."""
    return jnp.exp(jnp.minimum(log_density, MAX_LOG_DENSITY))


def outward(gradient: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Return unit vectors against a gradient, zero where it is zero."""
    # rsqrt(sum + tiny), never a division by the norm: where the field is flat the
    # norm's derivative is NaN.
    return -gradient * jax.lax.rsqrt(jnp.sum(gradient**2, -1, keepdims=True) + 1e-10)
