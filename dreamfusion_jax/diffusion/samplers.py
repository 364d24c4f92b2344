"""Samplers over any prior: DDIM and DDPM ancestral sampling, with dynamic thresholding."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dreamfusion_jax.diffusion.cfg import guided_eps
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.types import Conditioning


def dynamic_threshold(
    x: Float[Array, "batch height width channels"], percentile: float
) -> Float[Array, "batch height width channels"]:
    """Clip each image to its own s >= 1 and divide by s (Imagen, section 2.3).

    s is that percentile (0-100) of |x|. Guided predictions leave [-1, 1]; a fixed clip
    would saturate them.
    """
    flat = jnp.abs(x).reshape(x.shape[0], -1)
    s = jnp.maximum(jnp.percentile(flat, percentile, axis=1), 1.0)[:, None, None, None]
    return jnp.clip(x, -s, s) / s


def sample(
    prior: Prior,
    params: Any,
    key: Key[Array, ""],
    embeddings: Mapping[str, Conditioning],
    *,
    steps: int = 50,
    guidance_weight: float = 4.0,
    eta: float = 0.0,
    percentile: float | None = 99.5,
) -> Float[Array, "batch height width channels"]:
    """Draw one image (or its latents) per prompt, in the model's range, from t = 1 to t = 0.

    Song et al. 2021, Eq. 12, at evenly spaced times: eta = 0 is the deterministic DDIM,
    eta = 1 is DDPM's ancestral sampling with the posterior variance. The last step ends at the
    predicted image x_hat, without noise (DreamFusion, Figure 7), also where the schedule's own
    t = 0 has some, as that of published models.

    Args:
      prior: the denoiser; its parameters come separately, as `params`.
      params: what `prior.eps_hat` needs.
      key: random key; step i uses fold_in(key, i).
      embeddings: rows by name, one per image each, see `guided_eps`.
      steps: number of evaluations.
      guidance_weight: omega; 0 samples without guidance.
      eta: share of the posterior's noise that is added in each step.
      percentile: of dynamic thresholding (0-100), for images; None leaves predictions as
        they are.
    """
    settings = (steps, guidance_weight, eta, percentile)
    return _sample(prior.architecture(), settings, params, key, embeddings)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sample(
    prior: Prior,
    settings: tuple[int, float, float, float | None],
    params: Any,
    key: Key[Array, ""],
    embeddings: Mapping[str, Conditioning],
) -> Float[Array, "batch height width channels"]:
    steps, guidance_weight, eta, percentile = settings
    batch = embeddings["positive"].mask.shape[0]
    times = jnp.linspace(1.0, 0.0, steps + 1)
    start = jax.random.normal(jax.random.fold_in(key, steps), (batch, *prior.latent_shape))

    def step(z, i):
        t, s = jnp.full(batch, times[i]), jnp.full(batch, times[i + 1])
        eps = guided_eps(prior, params, z, t, embeddings, guidance_weight=guidance_weight)
        noise = jax.random.normal(jax.random.fold_in(key, i), z.shape)
        alpha_s, sigma_s = prior.schedule.alpha_sigma(s)
        last = i == steps - 1
        to = jnp.where(last, 1.0, alpha_s), jnp.where(last, 0.0, sigma_s)
        return _move(prior.schedule.alpha_sigma(t), to, z, eps, noise, eta, percentile), None

    return jax.lax.scan(step, start, jnp.arange(steps))[0]


def ancestral_sample(
    prior: Prior,
    params: Any,
    key: Key[Array, ""],
    embeddings: Mapping[str, Conditioning],
    **kwargs: Any,
) -> Float[Array, "batch height width channels"]:
    """DDPM ancestral sampling (Ho et al. 2020): `sample` with eta = 1."""
    return sample(prior, params, key, embeddings, eta=1.0, **kwargs)


def _move(alpha_sigma_t, alpha_sigma_s, z_t, eps, noise, eta, percentile):
    """From z_t to z_s, s < t, given the noise that was predicted in z_t."""
    alpha_t, sigma_t, alpha_s, sigma_s = (
        a[:, None, None, None] for a in (*alpha_sigma_t, *alpha_sigma_s)
    )
    x = (z_t - sigma_t * eps) / alpha_t
    if percentile is not None:
        x = dynamic_threshold(x, percentile)
        eps = (z_t - alpha_t * x) / sigma_t
    # Variance of q(z_s | z_t, x): sigma_s^2 / sigma_t^2 (1 - alpha_t^2 / alpha_s^2).
    spread = eta * sigma_s / sigma_t * jnp.sqrt(1.0 - (alpha_t / alpha_s) ** 2)
    kept = jnp.sqrt(jnp.maximum(sigma_s**2 - spread**2, 0.0))
    return alpha_s * x + kept * eps + spread * noise
