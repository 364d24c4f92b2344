"""Classifier-free guidance, defined once, as the paper has it."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.types import TextEmbeddings


def guided_eps(
    prior: Prior,
    params: Any,
    z_t: Float[Array, "batch height width channels"],
    t: Float[Array, "batch"],
    embeddings: TextEmbeddings,
    *,
    guidance_weight: float,
) -> Float[Array, "batch height width channels"]:
    """eps_hat = (1 + omega) eps(z_t; y) - omega eps(z_t), both halves in one batch.

    Other code bases write uncond + s (cond - uncond); s = 1 + omega. With omega = 0
    the unconditional half has no weight and is not computed.

    Args:
      prior: the frozen denoiser.
      params: its parameters.
      z_t: noised images, model range.
      t: times in [0, 1].
      embeddings: one row per image, then the row of the unconditional prompt.
      guidance_weight: omega.
    """
    batch = z_t.shape[0]
    conditional = TextEmbeddings(states=embeddings.states[:batch], mask=embeddings.mask[:batch])
    if guidance_weight == 0:
        return prior.eps_hat(params, z_t, t, conditional)
    both = TextEmbeddings(
        states=_append_repeated(conditional.states, embeddings.states[batch], batch),
        mask=_append_repeated(conditional.mask, embeddings.mask[batch], batch),
    )
    eps = prior.eps_hat(params, jnp.concatenate([z_t, z_t]), jnp.concatenate([t, t]), both)
    eps_y, eps_empty = jnp.split(eps, 2)
    return (1 + guidance_weight) * eps_y - guidance_weight * eps_empty


def _append_repeated(rows: Array, row: Array, times: int) -> Array:
    return jnp.concatenate([rows, jnp.broadcast_to(row, (times, *row.shape))])


def to_model_range(image: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Renderer range [0, 1] -> diffusion model range [-1, 1]."""
    return 2.0 * image - 1.0


def to_image_range(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Diffusion model range [-1, 1] -> [0, 1], clipped."""
    return jnp.clip(0.5 * (x + 1.0), 0.0, 1.0)
