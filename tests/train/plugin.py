"""What a user's own config file may hold: a field and a guidance that learns, and their config."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.guidance import Guidance
from dreamfusion_jax.registry import register
from dreamfusion_jax.scene.fields import Field


@register("field", "cosines")
class CosineField(Field):
    """Random Fourier features and one layer."""

    features: int = 16

    @nn.compact
    def __call__(self, mean, variance):
        angles = nn.Dense(self.features, name="angles")(4 * mean)
        heads = nn.Dense(1 + self.channels, name="heads")(jnp.cos(angles))
        return self.with_blob(heads[..., 0], mean), nn.sigmoid(heads[..., 1:])


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
        rows = jax.tree.map(lambda x: x[:-1], embeddings)
        eps_hat = prior.eps_hat(prior_params, z_t, t, rows)

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
        "train.image_size": 8,
        "train.views": 4,
        "train.steps": 8,
        "train.steps_per_call": 2,
        "train.checkpoint_every": 4,
        "train.preview_every": 4,
        "view_words": "paper",
        "optim.name": "adam",
    }
    override(config, changes)
    return config
