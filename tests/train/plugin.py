"""A user's own config file: a field, a prior, a guidance that learns, and what uses them."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.diffusion.noise_schedules import CosineSchedule
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.guidance import Guidance
from dreamfusion_jax.registry import register
from dreamfusion_jax.scene.fields import Field
from dreamfusion_jax.types import Conditioning


@register("field", "cosines")
class CosineField(Field):
    """Random Fourier features and one layer."""

    features: int = 16

    @nn.compact
    def __call__(self, mean, variance, step):
        angles = nn.Dense(self.features, name="angles")(4 * mean)
        heads = nn.Dense(1 + self.channels, name="heads")(jnp.cos(angles))
        return self.with_blob(heads[..., 0], mean), nn.sigmoid(heads[..., 1:])


@register("prior", "discs")
@dataclasses.dataclass(frozen=True)
class Discs(Prior):
    """The exact denoiser of one disc, red for a ball and green for a cube, in pairs of views."""

    softness: float = 1.0  # pixels from the inside to the outside
    params: dict | None = dataclasses.field(default=None, compare=False)
    schedule: CosineSchedule = CosineSchedule()

    image_shape = (8, 8, 3)
    known_nouns = ("ball", "cube")
    native_size = 8
    view_group = 2
    not_in_config = ("params", "schedule")

    def at(self, image_size, prompts=()):
        axis = jnp.arange(8) - 3.5
        inside = jnp.clip((3 - jnp.hypot(axis, axis[:, None])) / self.softness + 0.5, 0, 1)
        colors = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        images = colors[:, None, None] * inside[..., None] * 2 - 1
        return dataclasses.replace(self, params={"images": images})

    def architecture(self):
        return dataclasses.replace(self, params=None)

    def encode(self, prompts):
        named = [[float(noun in prompt) for noun in self.known_nouns] for prompt in prompts]
        weights = jnp.array([[w or 0.5 for w in row] if not any(row) else row for row in named])
        return Conditioning(states=weights[:, None], mask=jnp.ones((len(prompts), 1), bool))

    def eps_hat(self, params, z_t, t, embeddings):
        assert len(z_t) % self.view_group == 0
        alpha, sigma = (a[:, None, None, None] for a in self.schedule.alpha_sigma(t))
        mean = jnp.einsum("bn,nhwc->bhwc", embeddings.states[:, 0], params["images"])
        return (z_t - alpha * mean) / sigma


@register("guidance", "toy_vsd")
@dataclasses.dataclass(frozen=True)
class ToyVSD(Guidance):
    """Variational score distillation whose eps_phi is the exact denoiser of one learnt image."""

    rate: float = 1e-2
    t: float = 0.5

    @property
    def optimizer(self):
        return optax.adam(self.rate)

    def init(self, prior, key):
        return {"image": 0.1 * jax.random.normal(key, prior.latent_shape)}

    def gradient(self, params, prior, prior_params, views, embeddings, keys, step):
        t = jnp.full(len(keys), self.t)
        alpha, sigma = (a[:, None, None, None] for a in prior.schedule.alpha_sigma(t))
        eps = jax.vmap(lambda key: jax.random.normal(key, prior.latent_shape))(keys)
        z_t = alpha * views.image + sigma * eps
        eps_hat = prior.eps_hat(prior_params, z_t, t, embeddings["positive"])

        def loss(params):
            eps_phi = (z_t - alpha * params["image"][views.scene]) / sigma
            each = jnp.mean((eps_phi - eps) ** 2, (1, 2, 3))
            own = jnp.zeros(len(params["image"])).at[views.scene].add(each)
            return own.sum() * len(own) / len(each), (eps_phi, each)

        gradient, (eps_phi, each) = jax.grad(loss, has_aux=True)(params)
        return sigma**2 * (eps_hat - eps_phi), gradient, {"phi_loss": each}


def get_config():
    config = load_config("quick")
    changes = {
        "scene.field.name": "cosines",
        "scene.sampler.name": "hierarchical",
        "scene.sampler.coarse_samples": 8,
        "scene.sampler.fine_samples": 8,
        "guidance.name": "toy_vsd",
        "prior.name": "discs",
        "prior.softness": 2.0,
        "train.image_size": 8,
        "train.batch_size": 4,
        "train.steps": 8,
        "stages.surface.begin": 1.0,  # a field to the end
        "train.steps_per_call": 2,
        "train.checkpoint_every": 4,
        "train.preview_every": 4,
        "prompt.view_words": "paper",
        "optim.name": "adam",
    }
    override(config, changes)
    return config
