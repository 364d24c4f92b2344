import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.lights import albedo_light, point_light
from dreamfusion_jax.scene.shading import shade
from dreamfusion_jax.types import FieldOutput

ALBEDO = jnp.array([0.2, 0.4, 0.8])


def lit(normal, light, point=(0.0, 0.0, 0.0)):
    field = FieldOutput(density=jnp.ones(1), albedo=ALBEDO[None], normals=jnp.array([normal]))
    return shade(field, jnp.array([point]), light)[0]


def test_lambertian_shading():
    light = point_light(jnp.array([0.0, 0.0, 2.0]))
    slanted = (0.6, 0.0, 0.8)
    np.testing.assert_allclose(lit(slanted, light), ALBEDO * (0.1 + 0.9 * 0.8), rtol=1e-5)
    facing_away = (0.0, 0.0, -1.0)
    np.testing.assert_allclose(lit(facing_away, light), ALBEDO * 0.1, rtol=1e-5)


def test_the_light_is_a_point():
    light = point_light(jnp.array([0.0, 0.0, 2.0]))
    shaded = lit((0.0, 0.0, 1.0), light, point=(2.0, 0.0, 0.0))
    np.testing.assert_allclose(shaded, ALBEDO * (0.1 + 0.9 / 2**0.5), rtol=1e-5)


def test_textureless_shading_is_white():
    light = point_light(jnp.array([0.0, 0.0, 2.0]), textureless=True)
    np.testing.assert_allclose(lit((0.0, 0.0, 1.0), light), 1.0, rtol=1e-5)


def test_the_albedo_light_shows_the_albedo():
    np.testing.assert_allclose(lit((0.0, 0.0, -1.0), albedo_light()), ALBEDO, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2,), (2, 4, 3)])
def test_one_light_for_each_view(shape):
    rng = np.random.default_rng(0)
    normals = jnp.array(rng.normal(size=(*shape, 3)))
    field = FieldOutput(jnp.ones(shape), jnp.full((*shape, 3), 0.5), normals)
    points = jnp.array(rng.normal(size=(*shape, 3)))
    lights = point_light(jnp.array([[0.0, 0, 2], [1, 1, 0]]))
    together = shade(field, points, lights)
    for i in range(2):
        one = FieldOutput(field.density[i], field.albedo[i], field.normals[i])
        light = point_light(lights.position[i])
        np.testing.assert_allclose(together[i], shade(one, points[i], light), rtol=1e-5)
