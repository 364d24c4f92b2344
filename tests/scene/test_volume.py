import math

import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.volume import composite, rendering_weights


def test_constant_density_has_the_analytic_transmittance():
    deltas = jnp.array([0.1, 0.3, 0.2, 0.4])
    weights = rendering_weights(jnp.full(4, 1.7), deltas)
    ends = np.cumsum(deltas)
    expected = np.exp(-1.7 * (ends - np.asarray(deltas))) - np.exp(-1.7 * ends)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 0.15, 0.4])
def test_a_gaussian_ball_has_the_analytic_transmittance(offset):
    peak, std = 6.0, 0.2
    t_vals = np.linspace(-1, 1, 257)
    middle = (t_vals[1:] + t_vals[:-1]) / 2
    density = peak * np.exp(-(middle**2 + offset**2) / (2 * std**2))
    opacity = rendering_weights(jnp.array(density), jnp.array(np.diff(t_vals))).sum()
    depth = peak * math.exp(-(offset**2) / (2 * std**2)) * std * math.sqrt(2 * math.pi)
    assert opacity == pytest.approx(1 - math.exp(-depth), rel=1e-4)


def test_alpha_compositing_of_the_paper():
    rng = np.random.default_rng(0)
    density, deltas = rng.uniform(0, 3, (5, 8)), rng.uniform(0, 0.5, (5, 8))
    values = rng.uniform(size=(5, 8, 3))
    expected, left = np.zeros((5, 3)), np.ones(5)
    for i in range(8):
        alpha = 1 - np.exp(-density[:, i] * deltas[:, i])
        expected += (left * alpha)[:, None] * values[:, i]
        left *= 1 - alpha
    weights = rendering_weights(jnp.array(density), jnp.array(deltas))
    np.testing.assert_allclose(composite(weights, jnp.array(values)), expected, rtol=1e-4)
    np.testing.assert_allclose(weights.sum(-1) + left, 1.0, atol=1e-6)
