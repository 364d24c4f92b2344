"""From the config to the optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.optim import build_optimizer, shampoo, warmup_cosine


def config(**changes):
    result = load_config("paper").optim.copy_and_resolve_references()
    with result.unlocked():
        result.update_from_flattened_dict(changes)
    return result


def one_step(optimizer, gradients):
    return jax.jit(lambda g: optimizer.update(g, optimizer.init(g), g)[0])(gradients)


def test_paper_config_is_shampoo_with_the_paper_schedule():
    gradients = {"field": jnp.array([3.0, -4.0])}
    got = one_step(build_optimizer(config(), 15_000), gradients)
    want = one_step(shampoo(warmup_cosine(15_000)), gradients)
    np.testing.assert_array_equal(got["field"], want["field"])
    np.testing.assert_allclose(got["field"], [-1.9e-9, 1.9e-9], rtol=1e-5)  # beta1 m + u = 1.9


def test_clipping_comes_first():
    settings = config(clip_norm=1.0, **{"shampoo.graft_type": "sgd", "warmup_steps": 0})
    updates = one_step(build_optimizer(settings, 10), {"w": jnp.array([30.0, 40.0])})
    assert np.linalg.norm(updates["w"]) == pytest.approx(1.9e-4, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sgd"}, "optim.name is 'sgd'; choose one of shampoo, adam"),
        ({"shampoo.graft_type": "rms"}, "got 'rms'"),
        ({"shampoo.block_size": 0}, "block_size must be at least 1; got 0"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
        ({"learning_rate": -1.0}, "peak must not be negative"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        build_optimizer(config(**changes), 10)


def test_unknown_arguments_are_named():
    settings = config()
    with settings.unlocked():
        settings.shampoo.momentum = 0.9
    with pytest.raises(UserError, match="optim.shampoo has no argument 'momentum'; it takes"):
        build_optimizer(settings, 10)
