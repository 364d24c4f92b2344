import ml_collections
import numpy as np
import pytest

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.prompts.views import VIEW_WORDS


def tiny_config(**changes) -> ml_collections.ConfigDict:
    """quick.py made as small as it goes: seconds to compile, milliseconds a step."""
    config = load_config("quick")
    values = {
        "prompt": "a ball",
        "scene.field.width": 16,
        "scene.field.blocks": 1,
        "scene.field.frequencies": 4,
        "scene.coarse_samples": 8,
        "scene.fine_samples": 8,
        "train.image_size": 8,
        "train.views": 4,
        "train.steps": 8,
        "train.steps_per_call": 2,
        "train.checkpoint_every": 4,
        "train.preview_every": 4,
        "light.albedo_steps": 2,
        "guidance.view_words": "paper",
    }
    override(config, values | {k.replace("__", "."): v for k, v in changes.items()})
    return config


def ball_prior(size: int = 8) -> EmpiricalPrior:
    """Red discs of different radii: a ball from all sides."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    distance = np.hypot(*np.meshgrid(axis, axis))
    discs = [np.clip((radius - distance) * size + 0.5, 0, 1) for radius in (0.2, 0.22, 0.24, 0.26)]
    rgba = np.stack([np.dstack([np.ones_like(d), 0.1 + 0 * d, 0.1 + 0 * d, d]) for d in discs])
    return EmpiricalPrior.from_pictures(rgba, [Caption("ball", (), (w,)) for w in VIEW_WORDS])


@pytest.fixture(name="tiny_config")
def tiny_config_fixture():
    return tiny_config


@pytest.fixture(name="ball_prior", scope="session")
def ball_prior_fixture():
    return ball_prior()
