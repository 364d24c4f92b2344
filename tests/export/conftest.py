"""Scenes whose shape is known in closed form, in place of a trained field."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from dreamfusion_jax.scene.fields import MlpField
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler

PARAMS = {"field": {}, "background": {}}


class Ball(MlpField):
    """A hard ball, red above and blue below, and a speck far from it."""

    radius: float = 0.75
    ball: float = 0.3
    center: tuple[float, float, float] = (0.1, 0.0, 0.05)
    speck: float = 0.0
    hollow: float = 0.0
    hardness: float = 800.0

    @nn.compact
    def __call__(self, mean, variance, step):
        distance = jnp.linalg.norm(mean - jnp.array(self.center), axis=-1)
        inside = self.ball - distance
        inside = jnp.minimum(inside, distance - self.hollow)
        away = self.speck - jnp.linalg.norm(mean - jnp.array([-0.4, -0.4, -0.2]), axis=-1)
        inside = jnp.maximum(inside, away)
        upper = mean[..., 2:] > self.center[2]
        color = jnp.where(upper, jnp.array([0.8, 0.1, 0.1]), jnp.array([0.1, 0.2, 0.8]))
        return jnp.clip(self.hardness * inside, -12.0, 7.0), color


class Empty(MlpField):
    """Nothing, or worse."""

    log_density: float = -20.0

    @nn.compact
    def __call__(self, mean, variance, step):
        return jnp.full(mean.shape[:-1], self.log_density), jnp.zeros_like(mean)


def scene_of(field: nn.Module) -> NerfScene:
    return NerfScene(field=field, sampler=HierarchicalSampler(32, 16), radius=0.75)


@pytest.fixture(scope="session")
def params():
    return PARAMS


@pytest.fixture(scope="session")
def ball():
    return scene_of(Ball())


@pytest.fixture(scope="session")
def make_scene():
    """`make_scene(speck=0.02)`: a ball with other settings; `log_density=...`: no ball."""

    def make(**settings):
        return scene_of(Empty(**settings) if "log_density" in settings else Ball(**settings))

    return make
