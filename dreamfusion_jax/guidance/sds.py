"""Score Distillation Sampling (paper section 2.1): image -> gradient."""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax.diffusion.cfg import guided_eps
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.distributions import Normal, Uniform
from dreamfusion_jax.guidance.base import Guidance
from dreamfusion_jax.prompts.view_prompts import ViewPrompts
from dreamfusion_jax.registry import register
from dreamfusion_jax.schedules import Ramp
from dreamfusion_jax.types import Conditioning, RenderedViews

WEIGHTINGS = ("sigma_squared", "uniform")


@flax.struct.dataclass
class GuidanceAux:
    """What was drawn and predicted: times, w(t), and the mean squared residual per image."""

    t: Float[Array, "batch"]
    weight: Float[Array, "batch"]
    residual: Float[Array, "batch"]


def sds_gradient(
    prior: Prior,
    params: Any,
    image: Float[Array, "batch height width channels"],
    embeddings: Mapping[str, Conditioning],
    key: Key[Array, "*keys"],
    *,
    guidance_weight: float = 100.0,
    t_range: tuple[float | Float[Array, ""], float | Float[Array, ""]] = (0.02, 0.98),
    weighting: str = "sigma_squared",
) -> tuple[Float[Array, "batch height width channels"], GuidanceAux]:
    """w(t) (eps_hat(z_t; y, t) - eps), paper Eq. 3 without the factor dx/dtheta.

    The caller multiplies by the renderer's Jacobian (a VJP). Nothing flows through the
    prior's U-Net: its Jacobian is left out by construction. Where the prior noises latents,
    the gradient comes back through the Jacobian of their encoder.

    Args:
      prior: the frozen denoiser.
      params: its parameters.
      image: x in the model's range [-1, 1], or latents of it.
      embeddings: rows by name, one per image each, see `guided_eps`.
      key: draws t and eps; one key, or one for each image.
      guidance_weight: omega of classifier-free guidance.
      t_range: t ~ U(t_range), within [0, 1].
      weighting: w(t) = sigma_t^2 ("sigma_squared") or 1 ("uniform").

    Returns:
      The gradient with respect to the image, and what was drawn.
    """
    image = jax.lax.stop_gradient(image)
    latents, vjp = jax.vjp(functools.partial(_latents, prior, params), image)
    z_t, t, eps, weight = _diffuse(prior, latents, key, t_range, weighting)
    eps_hat = guided_eps(prior, params, z_t, t, embeddings, guidance_weight=guidance_weight)
    residual = jax.lax.stop_gradient(eps_hat - eps)
    (gradient,) = vjp(_expand(weight) * residual)
    return gradient, _aux(t, weight, residual)


def diffusion_loss_gradient(
    prior: Prior,
    params: Any,
    image: Float[Array, "batch height width channels"],
    embeddings: Mapping[str, Conditioning],
    key: Key[Array, "*keys"],
    *,
    guidance_weight: float = 100.0,
    t_range: tuple[float | Float[Array, ""], float | Float[Array, ""]] = (0.02, 0.98),
    weighting: str = "sigma_squared",
) -> tuple[Float[Array, "batch height width channels"], GuidanceAux]:
    """Return the full gradient of the diffusion loss, through the U-Net (paper Eq. 2).

    d/dx of w(t) / (2 alpha_t) |eps_hat(alpha_t x + sigma_t eps) - eps|^2: the paper's ablation,
    which does not give realistic samples. As there, alpha_t is part of w(t), so that the U-Net's
    Jacobian is all that differs. Arguments as for `sds_gradient`.
    """

    def loss(x):
        z_t, t, eps, weight = _diffuse(prior, _latents(prior, params, x), key, t_range, weighting)
        eps_hat = guided_eps(prior, params, z_t, t, embeddings, guidance_weight=guidance_weight)
        residual = eps_hat - eps
        alpha, _ = prior.schedule.alpha_sigma(t)
        return 0.5 * jnp.sum(_expand(weight / alpha) * residual**2), _aux(t, weight, residual)

    return jax.grad(loss, has_aux=True)(image)


def _latents(prior: Prior, params: Any, image: Array) -> Array:
    """Return what is noised: the image's latents, or the image if it is latents already."""
    return image if image.shape[1:] == prior.latent_shape else prior.to_latents(params, image)


def _diffuse(prior: Prior, latents: Array, key: Key[Array, "*keys"], t_range, weighting: str):
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting is {weighting!r}, expected one of {WEIGHTINGS}.")
    keys = jax.random.split(key, latents.shape[0]) if key.ndim == 0 else key
    low, high = t_range

    def draw(key):
        t_key, eps_key = jax.random.split(key)
        unit = Uniform(0.0, 1.0).sample(seed=t_key)
        return unit, Normal(0.0, 1.0).sample(seed=eps_key, sample_shape=latents.shape[1:])

    unit, eps = jax.vmap(draw)(keys)
    t = low + (high - low) * unit
    alpha, sigma = prior.schedule.alpha_sigma(t)
    z_t = _expand(alpha) * latents + _expand(sigma) * eps
    weight = sigma**2 if weighting == "sigma_squared" else jnp.ones_like(sigma)
    return z_t, t, eps, weight


def _aux(t: Array, weight: Array, residual: Array) -> GuidanceAux:
    return GuidanceAux(t=t, weight=weight, residual=jnp.mean(residual**2, axis=(1, 2, 3)))


def _expand(per_image: Float[Array, "batch"]) -> Float[Array, "batch 1 1 1"]:
    return per_image[:, None, None, None]


@dataclasses.dataclass(frozen=True)
class _DiffusionGuidance(Guidance):
    """What guidance by a diffusion prior has in common: omega, t ~ U(t_min, t_max), and w(t)."""

    omega: float = 100.0
    t_min: float = 0.02
    t_max: Ramp = Ramp(0.98, 0.98, 0)
    weighting: str = "sigma_squared"

    def __post_init__(self):
        if self.weighting not in WEIGHTINGS:
            raise ValueError(
                f"weighting is {self.weighting!r}; choose one of {', '.join(WEIGHTINGS)}."
            )
        if not 0 <= self.t_min < min(self.t_max.start, self.t_max.end):
            raise ValueError(
                f"t_min {self.t_min} must lie below t_max, {self.t_max.start} to {self.t_max.end}."
            )
        if max(self.t_max.start, self.t_max.end) > 1:
            raise ValueError(
                f"t_max is {self.t_max.start} to {self.t_max.end}; both must be within [0, 1]."
            )

    def prompts(self, view_prompts: ViewPrompts, prompt: str) -> dict[str, list[str]]:
        """Return the prompt for every view, and the empty one where omega gives it any weight."""
        rows = {"positive": view_prompts.of(prompt)}
        return rows | {"empty": [""]} if self.omega else rows

    @abc.abstractmethod
    def loss_gradient(self, *args: Any, **settings: Any) -> tuple[Array, GuidanceAux]:
        """Return a gradient by the arguments of `sds_gradient`."""

    def gradient(
        self,
        params: None,
        prior: Prior,
        prior_params: Any,
        views: RenderedViews,
        embeddings: Mapping[str, Conditioning],
        keys: Key[Array, "batch"],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, "batch height width channels"], None, dict[str, Float[Array, "batch"]]]:
        """Return the gradient of all views, see `Guidance`, and the mean squared residual."""
        gradient, aux = self.loss_gradient(
            prior,
            prior_params,
            views.image,
            embeddings,
            keys,
            guidance_weight=self.omega,
            t_range=(self.t_min, self.t_max(step)),
            weighting=self.weighting,
        )
        return gradient, None, {"sds_residual": aux.residual}


@register("guidance", "sds")
@dataclasses.dataclass(frozen=True)
class SDS(_DiffusionGuidance):
    """Score Distillation Sampling (paper Eq. 3)."""

    loss_gradient = staticmethod(sds_gradient)


@register("guidance", "diffusion_loss")
@dataclasses.dataclass(frozen=True)
class DiffusionLoss(_DiffusionGuidance):
    """The full gradient of the diffusion loss (paper Eq. 2), its ablation."""

    loss_gradient = staticmethod(diffusion_loss_gradient)
