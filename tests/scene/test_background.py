import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dreamfusion_jax.scene import background
from dreamfusion_jax.scene.background import EnvironmentMap, random_color, random_texture


def test_random_colors_are_clipped_gaussians():
    keys = jax.random.split(jax.random.key(0), 20_000)
    colors = np.asarray(jax.vmap(lambda key: random_color(key, 0.5, 0.3))(keys))
    assert colors.min() == 0.0 and colors.max() == 1.0
    assert np.median(colors) == pytest.approx(0.5, abs=0.01)
    assert np.mean(np.abs(colors - 0.5) < 0.3) == pytest.approx(0.683, abs=0.01)
    assert abs(np.corrcoef(colors.T)[0, 1]) < 0.03  # channels are independent


@pytest.mark.slow
def test_environment_map_is_smooth_in_the_direction():
    model = EnvironmentMap()
    directions = jnp.array([[1.0, 0, 0], [0.999, 0.0447, 0], [-1, 0, 0]])
    params = model.init(jax.random.key(0), directions)
    colors = model.apply(params, directions)
    assert np.all((colors > 0) & (colors < 1))
    assert np.abs(colors[0] - colors[1]).max() < np.abs(colors[0] - colors[2]).max()


@pytest.mark.slow
def test_textures_are_of_three_kinds():
    draw = jax.jit(jax.vmap(lambda key: random_texture(key, 32)))
    textures = np.asarray(draw(jax.random.split(jax.random.key(0), 60)))
    assert textures.shape == (60, 32, 32, 3) and 0 <= textures.min() and textures.max() <= 1
    assert textures.std((1, 2, 3)).min() > 0.005  # none is flat
    assert len(np.unique(textures.mean((1, 2, 3)).round(5))) > 55


def test_checkerboards_have_eight_squares_of_two_colors_a_side():
    board = np.asarray(background._checkerboard(jax.random.key(3), 32))
    assert len(np.unique(board.reshape(-1, 3), axis=0)) == 2
    np.testing.assert_array_equal(board[:4, :4], np.broadcast_to(board[0, 0], (4, 4, 3)))
    assert (board[0, 0] != board[0, 4]).any() and (board[0, 0] != board[4, 0]).any()
    np.testing.assert_array_equal(board[0, 0], board[4, 4])


def test_fourier_textures_have_more_of_the_low_frequencies():
    texture = np.asarray(background._fourier_texture(jax.random.key(0), 64))
    spectrum = np.abs(np.fft.fft2(np.log(texture / (1 - texture)), axes=(0, 1))).mean(-1)
    assert spectrum[0, 1:4].mean() > 10 * spectrum[0, 16:32].mean()


@pytest.mark.parametrize("std", [0.4, 1.1])
def test_blur_is_gaussian(std):
    image = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    ours = background._blurred(jnp.asarray(image), jnp.float32(std))
    expected = ndimage.gaussian_filter(image, (std, std, 0), mode="nearest", radius=(2, 2, 0))
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    unblurred = background._blurred(jnp.asarray(image), jnp.float32(0))
    np.testing.assert_allclose(unblurred, image, atol=1e-6)
