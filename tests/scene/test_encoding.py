import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.encoding import integrated_encoding, sin_turns


@pytest.mark.parametrize("variance", [0.0, 1e-3, 0.05])
def test_encoding_is_the_expectation_over_the_gaussian(variance, points):
    noise = np.random.default_rng(0).normal(size=(40_000, 1, 3)) * variance**0.5
    x = np.asarray(points)[:10] + noise
    octaves = [np.stack([np.sin(2**i * x), np.cos(2**i * x)], -2).mean(0) for i in range(5)]
    expected = np.concatenate([o.reshape(10, 6) for o in octaves], -1)
    encoded = integrated_encoding(points[:10], variance, 5)
    np.testing.assert_allclose(encoded, expected, atol=5 * 0.7 / 40_000**0.5)


def test_wide_gaussians_hide_high_frequencies(points):
    encoded = integrated_encoding(points, 1.0, 8)
    assert np.abs(encoded[:, -6:]).max() < 1e-6


def test_sine_is_exact_to_rounding():
    x = np.random.default_rng(0).uniform(-40, 40, 100_000).astype(np.float32)
    expected = np.sin(2 * np.pi * x.astype(np.float64))
    np.testing.assert_allclose(sin_turns(jnp.array(x)), expected, atol=5e-7)


def test_derivatives_of_the_sine():
    x = jnp.linspace(-3, 3, 101)
    first = jax.vmap(jax.grad(sin_turns))
    second = jax.vmap(jax.grad(jax.grad(sin_turns)))
    turn = 2 * np.pi
    np.testing.assert_allclose(first(x), turn * np.cos(turn * x), atol=1e-4)
    np.testing.assert_allclose(second(x), -(turn**2) * np.sin(turn * x), atol=1e-3)
