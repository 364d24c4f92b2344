import contextlib

import ml_collections
import numpy as np
import pytest

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.prompts.view_prompts import VIEW_WORDS
from dreamfusion_jax.train.checkpoint import Checkpoints
from dreamfusion_jax.train.loop import train
from dreamfusion_jax.train.parallel import device_count
from dreamfusion_jax.train.run_store import Job
from dreamfusion_jax.train.stage import make_stages
from dreamfusion_jax.train.state import TrainState, take_scene

FIELDS = {
    "mlp": {
        "scene.field.name": "mlp",
        "scene.sampler.name": "hierarchical",
        "scene.field.width": 16,
        "scene.field.blocks": 1,
        "scene.field.frequencies": 4,
    },
    # Leaves samples out, and refreshes its density grid between two checkpoints and after.
    "grid": {
        "scene.field.cells": 8,
        "scene.field.levels": 2,
        "scene.sampler.cells": 8,
        "scene.sampler.every": 3,
        "scene.sampler.decay": 0.5,
        "scene.sampler.budget": 0.5,
        "optim.tables.learning_rate": 1e-2,
    },
}


def tiny_config(field: str = "mlp", **changes) -> ml_collections.ConfigDict:
    """quick.py made as small as it goes: seconds to compile, milliseconds a step."""
    config = load_config("quick")
    values = FIELDS[field] | {
        "prompt.text": "a ball",
        "scene.sampler.coarse_samples": 8,
        "scene.sampler.fine_samples": 8,
        "train.image_size": 8,
        "train.batch_size": 4,
        "train.steps": 8,
        "train.steps_per_call": 2,
        "train.checkpoint_every": 4,
        "train.preview_every": 4,
        "light.albedo_steps": 2,
        "prompt.view_words": "paper",
    }
    with config.unlocked():
        config.stages = ml_collections.ConfigDict(changes.pop("stages", {}))
    override(config, values | {k.replace("__", "."): v for k, v in changes.items()})
    return config


def ball_prior(size: int = 8) -> EmpiricalPrior:
    """Red discs of different radii, a ball from all sides, and green squares, a cube."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(axis, axis)
    images, captions = [], []
    for noun, distance, color in (
        ("ball", np.hypot(x, y), (1.0, 0.1, 0.1)),
        ("cube", np.maximum(abs(x), abs(y)), (0.1, 0.8, 0.2)),
    ):
        for radius, word in zip((0.2, 0.22, 0.24, 0.26), VIEW_WORDS, strict=True):
            alpha = np.clip((radius - distance) * size + 0.5, 0, 1)
            images.append(np.dstack([np.full_like(alpha, c) for c in color] + [alpha]))
            captions.append(Caption(noun, (), (word,)))
    return EmpiricalPrior.from_images(np.stack(images), captions)


def train_one(config, prior, workdir, **how) -> TrainState:
    """Optimizes the config's prompt; returns the state without the axis of scenes."""
    jobs = [Job(config.prompt.text, config.seed, workdir)]
    how.setdefault("progress", False)
    prior_at = prior if callable(prior) else lambda size: prior
    stages = make_stages(config, prior_at, device_count(config.train.batch_size))
    return take_scene(train(config, stages, prior_at, jobs, **how), 0)


class Stopped(Exception):
    """As if the process had been killed."""


@pytest.fixture(name="stops_after_a_checkpoint")
def stops_after_a_checkpoint_fixture():
    """A context in which training stops when its first checkpoint is written."""

    @contextlib.contextmanager
    def stops():
        whole = Checkpoints.save

        def save(self, *arguments):
            whole(self, *arguments)
            raise Stopped

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(Checkpoints, "save", save)
            yield

    return stops


@pytest.fixture(name="tiny_config")
def tiny_config_fixture():
    return tiny_config


@pytest.fixture(name="ball_prior", scope="session")
def ball_prior_fixture():
    return ball_prior()


@pytest.fixture(name="sized_ball_prior")
def sized_ball_prior_fixture():
    return ball_prior


@pytest.fixture(name="train_one")
def train_one_fixture():
    return train_one
