"""SDS as a sampler of images, or of a prior's latents (paper Figure 2)."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.distributions import Normal
from dreamfusion_jax.guidance.sds import sds_gradient
from dreamfusion_jax.types import Conditioning


def sds_sample(
    prior: Prior,
    params: Any,
    embeddings: Mapping[str, Conditioning],
    key: PRNGKeyArray,
    *,
    steps: int = 500,
    learning_rate: float = 0.05,
    guidance_weight: float = 100.0,
    t_range: tuple[float, float] = (0.02, 0.98),
    weighting: str = "sigma_squared",
    mirrored: bool = False,
) -> Float[Array, "batch height width channels"]:
    """Descend the SDS gradient with respect to the pixels (or latents), with Adam.

    Mode-seeking: with a large guidance weight the results are typical, saturated and
    alike, where ancestral sampling is varied.

    Args:
      prior: the frozen denoiser.
      params: its parameters.
      embeddings: rows by name, one per image each, see `guided_eps`.
      key: draws the start and the noise.
      steps: optimizer steps.
      learning_rate: of Adam, decayed to 0 by a cosine.
      guidance_weight: omega.
      t_range: t ~ U(t_range).
      weighting: w(t), see `sds_gradient`.
      mirrored: constrain every image (or its latents) to equal its left-right mirror image, the
        paper's example of a constrained parameterization (Figure 2).

    Returns:
      Images in the model's range [-1, 1], or latents.
    """
    settings = (steps, learning_rate, guidance_weight, t_range, weighting, mirrored)
    return _sds_sample(prior.architecture(), settings, params, embeddings, key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sds_sample(
    prior: Prior,
    settings: tuple[int, float, float, tuple[float, float], str, bool],
    params: Any,
    embeddings: Mapping[str, Conditioning],
    key: PRNGKeyArray,
) -> Float[Array, "batch height width channels"]:
    steps, learning_rate, guidance_weight, t_range, weighting, mirrored = settings
    shape = (len(embeddings["positive"].mask), *prior.latent_shape)
    limit = 1.0 if prior.latent_shape == prior.image_shape else jnp.inf
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b2=0.99)
    start_key, noise_key = jax.random.split(key)
    x = 0.1 * Normal(0.0, 1.0).sample(seed=start_key, sample_shape=shape)

    def image_of(x):
        return (x + x[:, :, ::-1]) / 2 if mirrored else x

    def step(carry, i):
        x, opt_state = carry
        image, vjp = jax.vjp(image_of, x)
        gradient, _ = sds_gradient(
            prior,
            params,
            image,
            embeddings,
            jax.random.fold_in(noise_key, i),
            guidance_weight=guidance_weight,
            t_range=t_range,
            weighting=weighting,
        )
        updates, opt_state = optimizer.update(*vjp(gradient), opt_state)
        return (jnp.clip(x + updates, -limit, limit), opt_state), None

    (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(steps))
    return image_of(x)
