"""The neural field: position -> density and albedo (paper section 3.1 and appendix A.2)."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.scene.encoding import integrated_encoding
from dreamfusion_jax.types import FieldOutput

# exp(15) per unit length is opaque within a hundred-thousandth of the scene; the
# bound only keeps float32 finite.
MAX_LOG_DENSITY = 15.0


class MlpField(nn.Module):
    """The paper's residual MLP on the integrated positional encoding.

    `blob_scale` lambda_tau and `blob_std` sigma_tau shape the Gaussian that is added to
    the density before its exp; `density_offset` shifts it everywhere (0 in the paper,
    negative values start from emptier space). The albedo has `channels`, of which the first
    three are its colour.
    """

    width: int = 128
    blocks: int = 5
    frequencies: int = 8
    blob_scale: float = 5.0
    blob_std: float = 0.2
    density_offset: float = 0.0
    channels: int = 3

    @nn.compact
    def __call__(
        self, mean: Float[Array, "*batch 3"], variance: float | Float[Array, ""]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch channels"]]:
        """Returns the log density and the albedo in [0, 1] of Gaussians N(mean, variance I)."""
        h = nn.Dense(self.width, name="stem")(integrated_encoding(mean, variance, self.frequencies))
        for i in range(self.blocks):
            residual = nn.Dense(self.width, name=f"block{i}_in")(nn.silu(h))
            residual = nn.Dense(self.width, name=f"block{i}_out")(nn.silu(residual))
            h = nn.LayerNorm(name=f"norm{i}")(h + residual)
        heads = nn.Dense(1 + self.channels, name="heads")(nn.silu(h))
        blob = self.blob_scale * jnp.exp(-jnp.sum(mean**2, -1) / (2 * self.blob_std**2))
        log_density = heads[..., 0] + blob + self.density_offset
        return log_density, nn.sigmoid(heads[..., 1:])


def density_of(log_density: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """tau = exp(log_density), bounded to stay finite."""
    return jnp.exp(jnp.minimum(log_density, MAX_LOG_DENSITY))


def query_density(
    field: nn.Module,
    params,
    points: Float[Array, "*batch 3"],
    variance: float | Float[Array, ""],
    *,
    chunk: int = 0,
) -> Float[Array, "*batch"]:
    """The density alone: no albedo, no normals. `chunk` as for `query_field`."""

    def query(some):
        return density_of(field.apply(params, some, variance)[0])

    return _in_chunks(query, points, chunk)


def query_field(
    field: nn.Module,
    params,
    points: Float[Array, "*batch 3"],
    variance: float | Float[Array, ""],
    *,
    chunk: int = 0,
) -> FieldOutput:
    """Density, albedo and analytic normals n = -grad tau / |grad tau| at points.

    The gradient of log tau has the direction of that of tau, includes the density
    blob, and neither over- nor underflows.

    Args:
      field: the module.
      params: its parameters.
      points: any batch of positions.
      variance: of the Gaussians around them.
      chunk: points worked on at a time; their activations are computed again in the
        backward pass. On a CPU, chunks that fit into the cache are several times faster
        than one large batch. 0 takes all at once, as suits an accelerator.
    """

    def query(some):
        log_density, vjp, albedo = jax.vjp(
            lambda mean: field.apply(params, mean, variance), some, has_aux=True
        )
        # The barrier keeps the ones from being folded into a constant, on which the compiler
        # for TPUs fails in the backward pass (libtpu 0.0.42 and 0.0.52).
        (gradient,) = vjp(jax.lax.optimization_barrier(jnp.ones_like(log_density)))
        # rsqrt(sum + tiny), never a division by the norm: where the field is flat the
        # norm's derivative is NaN.
        normals = -gradient * jax.lax.rsqrt(jnp.sum(gradient**2, -1, keepdims=True) + 1e-10)
        return FieldOutput(density=density_of(log_density), albedo=albedo, normals=normals)

    return _in_chunks(query, points, chunk)


def _in_chunks(
    query: Callable[[Float[Array, "points 3"]], Any], points: Float[Array, "*batch 3"], chunk: int
) -> Any:
    """query(points), at most `chunk` points at a time."""
    # Always one flat batch: with more dimensions XLA's CPU backend copies the activations
    # to transpose them for the gradients of the weights.
    count = math.prod(points.shape[:-1])
    flat = points.reshape(count, 3)
    if not 0 < chunk < count:
        output = query(flat)
    else:
        padded = jnp.pad(flat, ((0, -count % chunk), (0, 0))).reshape(-1, chunk, 3)
        stacked = jax.lax.map(jax.checkpoint(query, prevent_cse=False), padded)
        output = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], stacked)
    return jax.tree.map(lambda x: x.reshape(*points.shape[:-1], *x.shape[1:]), output)
