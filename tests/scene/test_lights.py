import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import LightDistribution, sample_light

CAMERA = orbit_camera(jnp.array(0.3), 0.5, 1.25, 1.0)


def draw(step: int, count: int = 20_000):
    keys = jax.random.split(jax.random.key(0), count)
    sample = jax.vmap(lambda key: sample_light(key, CAMERA, jnp.array(step), LightDistribution()))
    return jax.jit(sample)(keys)


def test_the_first_steps_show_albedo():
    lights = draw(999)
    assert np.all(lights.ambient == 1) and np.all(lights.diffuse == 0)
    assert np.all(lights.textureless == 0)


def test_then_three_quarters_are_lit_and_half_of_these_textureless():
    lights = draw(1000)
    lit = np.asarray(lights.diffuse) > 0
    assert lit.mean() == pytest.approx(0.75, abs=0.012)
    assert np.asarray(lights.textureless)[lit].mean() == pytest.approx(0.5, abs=0.015)
    assert np.all(np.asarray(lights.textureless)[~lit] == 0)
    np.testing.assert_allclose(np.asarray(lights.ambient)[lit], 0.1)
    np.testing.assert_allclose(np.asarray(lights.diffuse)[lit], 0.9)
    assert np.all(np.asarray(lights.ambient)[~lit] == 1)


def test_light_positions():
    position = np.asarray(draw(1000).position)
    distance = np.linalg.norm(position, axis=-1)
    assert 0.8 - 1e-5 <= distance.min() and distance.max() <= 1.5 + 1e-5
    assert distance.mean() == pytest.approx(1.15, abs=0.01)
    # The directions are those of N(camera position, I), computed independently.
    noise = np.random.default_rng(0).normal(size=(200_000, 3)) + np.asarray(CAMERA.position)
    expected = (noise / np.linalg.norm(noise, axis=-1, keepdims=True)).mean(0)
    direction = position / distance[:, None]
    np.testing.assert_allclose(direction.mean(0), expected, atol=0.02)
