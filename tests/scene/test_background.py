import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.background import EnvironmentMap, random_colour


def test_random_colours_are_clipped_gaussians():
    keys = jax.random.split(jax.random.key(0), 20_000)
    colours = np.asarray(jax.vmap(lambda key: random_colour(key, 0.5, 0.3))(keys))
    assert colours.min() == 0.0 and colours.max() == 1.0
    assert np.median(colours) == pytest.approx(0.5, abs=0.01)
    assert np.mean(np.abs(colours - 0.5) < 0.3) == pytest.approx(0.683, abs=0.01)
    assert abs(np.corrcoef(colours.T)[0, 1]) < 0.03  # channels are independent


@pytest.mark.slow
def test_environment_map_is_smooth_in_the_direction():
    model = EnvironmentMap()
    directions = jnp.array([[1.0, 0, 0], [0.999, 0.0447, 0], [-1, 0, 0]])
    params = model.init(jax.random.key(0), directions)
    colours = model.apply(params, directions)
    assert np.all((colours > 0) & (colours < 1))
    assert np.abs(colours[0] - colours[1]).max() < np.abs(colours[0] - colours[2]).max()
