"""A shape without symmetry, with colors that tell its front from its back."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.evaluation.alignment import Alignment, Views, render_aligned
from dreamfusion_jax.export.view_renderer import prepare_views
from dreamfusion_jax.scene.fields import MlpField
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler

PARAMS = {"field": {}, "background": {}}


class Lamp(MlpField):
    """A long base and a ball on one end of it, turned about z and scaled."""

    turn: float = 0.0
    grow: float = 1.0
    color: tuple[float, float, float] = (0.9, 0.2, 0.1)

    @nn.compact
    def __call__(self, mean, variance, step):
        c, s = math.cos(self.turn), math.sin(self.turn)
        x, y, z = mean[..., 0], mean[..., 1], mean[..., 2]
        p = jnp.stack([c * x + s * y, -s * x + c * y, z], -1) / self.grow
        box = jnp.abs(p - jnp.array([0.0, 0.0, -0.2])) - jnp.array([0.34, 0.12, 0.06])
        ball = jnp.linalg.norm(p - jnp.array([0.2, 0.0, 0.06]), axis=-1) - 0.2
        inside = -jnp.minimum(box.max(-1), ball)
        front = jnp.where(p[..., :1] > 0, jnp.array(self.color), jnp.array([0.1, 0.3, 0.7]))
        return jnp.clip(500 * inside, -12.0, 7.0), front


def scene_of(**settings):
    return NerfScene(field=Lamp(**settings), sampler=HierarchicalSampler(24, 12), radius=0.75)


@pytest.fixture(scope="session")
def params():
    return PARAMS


@pytest.fixture(scope="session")
def truth_scene():
    return scene_of()


@pytest.fixture(scope="session")
def turned_scene():
    """The truth turned by 130 degrees and shrunk to 0.8."""
    return scene_of(turn=math.radians(130), grow=0.8)


@pytest.fixture(scope="session")
def true_images(truth_scene):
    """16 views of the truth as the evaluation has them: 8 azimuths at 15 and 30 degrees."""
    azimuth = np.tile(np.arange(8) * math.pi / 4 + math.pi / 8, 2)
    elevation = np.repeat(np.radians([15.0, 30.0]), 8)
    views = Views(np.zeros((16, 64, 64, 4)), azimuth, elevation, np.full(16, 1.5), np.full(16, 1.1))
    prepared = prepare_views(truth_scene, PARAMS)
    rgba = render_aligned(truth_scene, PARAMS, prepared, views, Alignment(0.0, 1.0))
    return Views(rgba, azimuth, elevation, views.distance, views.focal)
