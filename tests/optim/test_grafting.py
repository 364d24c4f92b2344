"""Grafting updates against their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.optim import grafting

FIRST = np.array([[3.0, 0.0], [0.0, -4.0]], np.float32)
SECOND = np.array([[0.0, 1.0], [2.0, 2.0]], np.float32)


def two_steps(graft_type, beta2):
    diagonal = jnp.zeros((2, 2)) if grafting.has_diagonal(graft_type) else None
    for gradient in (FIRST, SECOND):
        gradient = jnp.asarray(gradient)
        if diagonal is not None:
            diagonal = grafting.accumulate(graft_type, gradient, diagonal, beta2)
        update = grafting.graft(graft_type, gradient, diagonal, 1e-3)
    return update


@pytest.mark.parametrize(
    ("graft_type", "beta2", "scales", "weights"),
    [
        ("adagrad", 0.5, (1, 1), (1, 1)),
        ("adagrad_normalized", 0.5, (5, 3), (1, 1)),
        ("rmsprop", 0.75, (1, 1), (0.75 * 0.25, 0.25)),
        ("rmsprop", 1.0, (1, 1), (1, 1)),
        ("rmsprop_normalized", 0.75, (5, 3), (0.75 * 0.25, 0.25)),
    ],
)
def test_diagonal_types(graft_type, beta2, scales, weights):
    first, second = FIRST / scales[0], SECOND / scales[1]
    want = second / (np.sqrt(weights[0] * first**2 + weights[1] * second**2) + 1e-3)
    np.testing.assert_allclose(two_steps(graft_type, beta2), want, rtol=1e-5)


def test_types_without_memory():
    np.testing.assert_array_equal(two_steps("sgd", 0.9), SECOND)
    np.testing.assert_array_equal(two_steps("sqrt_n", 0.9), np.sign(SECOND))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 2)])
def test_rescale_takes_the_norm_over(shape):
    update, target = jnp.full(shape, -3.0), jnp.ones(shape)
    np.testing.assert_allclose(grafting.rescale(update, target), -np.ones(shape), rtol=1e-6)
    np.testing.assert_array_equal(grafting.rescale(0 * update, target), np.zeros(shape))


def test_unknown_type_is_named():
    with pytest.raises(ValueError, match="sqrt_n.*got 'rms'"):
        grafting.check_graft_type("rms")
