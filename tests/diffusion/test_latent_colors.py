import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.diffusion.latent_colors import (
    LATENT_TO_COLOR,
    colors_to_latents,
    to_prior_range,
)
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.view_renderer import render_views
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.nerf import NerfScene, field_at
from dreamfusion_jax.train.stage import make_stage


class Latents(EmpiricalPrior):
    """A prior of latents, as far as its shapes say."""

    latent_shape = (4, 4, 4)


@pytest.fixture
def pixels():
    images = np.ones((1, 16, 16, 4), np.float32)
    return EmpiricalPrior.from_images(images, [Caption("ball", (), ())])


def test_latents_of_a_color_look_like_it():
    rng = np.random.default_rng(0)
    channels = rng.uniform(0, 1, (5, 4)).astype(np.float32)
    latents = np.asarray(colors_to_latents(jnp.asarray(channels)))
    np.testing.assert_allclose(latents @ LATENT_TO_COLOR, 2 * channels[:, :3] - 1, atol=1e-5)
    # All latents are reached: the map has an inverse.
    basis = np.asarray(colors_to_latents((jnp.eye(4) + 1) / 2))
    assert np.linalg.cond(basis) < 20


def test_rendered_images_take_the_priors_form(pixels):
    images = jnp.full((2, 8, 8, 3), 0.5)
    assert to_prior_range(pixels, images).shape == (2, 16, 16, 3)
    np.testing.assert_allclose(to_prior_range(pixels, images), 0, atol=1e-6)
    prior = Latents(pixels.params, pixels.captions, pixels.image_shape)
    latents = to_prior_range(prior, jnp.full((2, 8, 8, 4), 0.5))
    assert latents.shape == (2, 4, 4, 4)


@pytest.mark.slow
def test_a_scene_of_latents_still_has_colors():
    config = load_config("quick")
    field = {"scene.field.name": "mlp", "scene.field.width": 8}
    override(config, field | {"scene.space": "latent"})
    scene = NerfScene.from_config(config.scene)
    params = scene.init(jax.random.key(0))
    camera = orbit_camera(jnp.array(0.3), 0.2, distance=1.5, focal=1.25)
    out = render_views(scene, params, jax.tree.map(lambda x: x[None], camera), 4)
    assert out.rgb.shape == out.albedo.shape == (1, 4, 4, 3)
    assert field_at(scene, params, np.zeros((2, 3)))[1].shape == (2, 3)
    heads = params["field"]["params"]["heads"]["kernel"]
    assert heads.shape == (8, 5)  # density, three colors, and what has none


def test_latents_need_a_prior_that_has_them(pixels):
    config = load_config("quick")
    override(config, {"scene.space": "latent"})
    with pytest.raises(UserError, match="works on images themselves"):
        make_stage(config, pixels, 1)
