"""Classifier-free guidance, defined once, as the paper has it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.types import Conditioning


def guided_eps(
    prior: Prior,
    params: Any,
    z_t: Float[Array, "batch height width channels"],
    t: Float[Array, "batch"],
    embeddings: Mapping[str, Conditioning],
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
      embeddings: rows by name, one per image each: "positive", the images' texts, and "empty", the
        unconditional prompt, which with omega = 0 may be missing.
      guidance_weight: omega.
    """
    positive = embeddings["positive"]
    if guidance_weight == 0:
        return prior.eps_hat(params, z_t, t, positive)
    both = jax.tree.map(lambda *rows: jnp.concatenate(rows), positive, embeddings["empty"])
    eps = prior.eps_hat(params, jnp.concatenate([z_t, z_t]), jnp.concatenate([t, t]), both)
    eps_y, eps_empty = jnp.split(eps, 2)
    return (1 + guidance_weight) * eps_y - guidance_weight * eps_empty


def to_model_range(image: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Map the renderer's range [0, 1] to the diffusion models' [-1, 1]."""
    return 2.0 * image - 1.0


def to_image_range(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Diffusion model range [-1, 1] -> [0, 1], clipped."""
    return jnp.clip(0.5 * (x + 1.0), 0.0, 1.0)
