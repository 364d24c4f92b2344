import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.prior import encode_rows
from dreamfusion_jax.guidance.clip import ClipGuidance
from dreamfusion_jax.guidance.image_text_prior import ImageTextPrior
from dreamfusion_jax.models.image_text import unit
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import point_light
from dreamfusion_jax.types import Conditioning, RenderedViews

KEYS = jax.random.split(jax.random.key(0), 2)


@dataclasses.dataclass(frozen=True)
class MeanColor:
    """Vectors are the mean color, times a parameter, made unit."""

    params: float = 1.0
    image_size: int = 6

    def embed(self, params, images):
        assert images.shape[1:] == (self.image_size, self.image_size, 3)
        return unit(params * images.mean((1, 2)))

    def images(self, images):
        raise NotImplementedError

    def texts(self, texts):
        colors = {"red": (1, 0, 0), "green": (0, 1, 0), "": (1, 1, 1)}
        vectors = np.array([colors[text] for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def architecture(self):
        return self


PRIOR = ImageTextPrior(MeanColor(), (12, 12, 3))


def images(size=12):
    return jax.random.uniform(jax.random.key(1), (2, size, size, 3), minval=-0.5, maxval=0.5)


def gradient(guidance, x, keys=KEYS, prior=PRIOR):
    rows = encode_rows(prior, positive=["red", "green"])
    angles = jnp.zeros(2)
    camera = orbit_camera(angles, angles, distance=1.5, focal=1.1)
    light = point_light(camera.position, ambient=1.0, diffuse=0.0)
    views = RenderedViews(x, camera, light, jnp.zeros(2, jnp.int32))
    grad, own, metrics = guidance.gradient(None, prior, 1.0, views, rows, keys, jnp.int32(0))
    assert own is None
    return grad, metrics


def test_prior_hands_texts_over_as_states():
    rows = PRIOR.encode(["red", ""])
    assert isinstance(rows, Conditioning) and rows.states.shape == (2, 1, 3)
    assert PRIOR.latent_shape == (12, 12, 3) and PRIOR.params == 1.0


@pytest.mark.slow
def test_gradient_is_that_of_the_cosine_of_whole_images():
    """Without cutting anything off, each image's own cosine, times its pixels."""
    x = images()
    prior = ImageTextPrior(MeanColor(image_size=12), (12, 12, 3))
    grad, aux = gradient(ClipGuidance(num_crops=3, crop_fraction=1.0), x, prior=prior)

    def cosine(image, color):
        mean = (image / 2 + 0.5).mean((0, 1))
        return mean[color] / jnp.linalg.norm(mean)

    for i in range(2):
        value, expected = jax.value_and_grad(functools.partial(cosine, color=i))(x[i])
        np.testing.assert_allclose(aux["clip_distance"][i], 1 - value, atol=1e-5)
        np.testing.assert_allclose(grad[i], -144 * expected, atol=1e-4)


@pytest.mark.slow
def test_crops_lie_inside_and_are_drawn_anew():
    x = images()
    small = ClipGuidance(num_crops=1, crop_fraction=0.5)
    grads = [gradient(small, x, jax.random.split(jax.random.key(s), 2))[0][0] for s in range(6)]
    seen = [np.argwhere(np.abs(g).max(-1) > 0) for g in grads]
    for cells in seen:
        low, high = cells.min(0), cells.max(0)
        assert (high - low == 5).all() and len(cells) == 36
    assert len({tuple(cells.min(0)) for cells in seen}) > 2
    many = gradient(ClipGuidance(num_crops=200, crop_fraction=0.75), x)[0]
    assert (np.abs(many).max(-1) > 0).all()


def test_steps_along_the_gradient_bring_the_color():
    x, guidance = images(), ClipGuidance(num_crops=2, crop_fraction=0.75)
    step = jax.jit(lambda x, keys: gradient(guidance, x, keys))
    first = step(x, KEYS)[1]["clip_distance"]
    for i in range(60):
        grad, aux = step(x, jax.random.split(jax.random.key(i), 2))
        x = jnp.clip(x - 0.05 * grad, -1, 1)
    assert (aux["clip_distance"] < 0.25 * first).all()
    assert x[0].mean((0, 1)).argmax() == 0 and x[1].mean((0, 1)).argmax() == 1


@pytest.mark.parametrize("side", [5, 12, 13])
def test_renders_of_any_size_are_resized(side):
    grad, _ = gradient(ClipGuidance(num_crops=2, crop_fraction=0.9), images(side))
    assert grad.shape == (2, side, side, 3) and np.isfinite(grad).all()
