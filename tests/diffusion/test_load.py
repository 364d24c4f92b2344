import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.load import find_prior, load_prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.images import to_uint8
from dreamfusion_jax.furniture.colors import dominant_color
from dreamfusion_jax.furniture.exact_prior import furniture_views
from dreamfusion_jax.furniture.object_views import box_downsample, load_object_views


def test_box_downsample_weights_color_by_opacity():
    image = np.zeros((1, 2, 2, 4), np.float32)
    image[0, 0, 0] = (1.0, 0.5, 0.0, 1.0)  # the other three pixels are clear
    np.testing.assert_allclose(box_downsample(image, 1)[0, 0, 0], (1.0, 0.5, 0.0, 0.25))


def test_unusable_priors_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no prior 'imagen'"):
        load_prior("imagen")
    with pytest.raises(UserError, match="no model_index.json, .* and no config.json"):
        load_prior(str(tmp_path))
    with pytest.raises(UserError, match="48 does not divide"):
        furniture_views(48, ["a teddy bear"])
    with pytest.raises(UserError, match="-3 does not divide"):
        furniture_views(-3)


def test_a_view_in_the_prompt_does_not_hide_the_other_sides():
    prior = furniture_views(8, ["a teddy bear, front view"])
    assert len(prior.captions) == 144
    row = prior.encode(["a teddy bear, front view, back view at eye level"]).states[0, 0] > 0
    seen = {prior.captions[i].views[0] for i in np.flatnonzero(row)}
    assert seen == {"back view"}


def test_a_config_that_is_no_table_is_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="config.json is not valid JSON .it holds a list"):
        find_prior(str(tmp_path))


@pytest.mark.slow
def test_the_shipped_network_listens_to_its_caption():
    """It denoises pictures better with their own caption than with another's."""
    prior = load_prior("furniture-unet")
    size = prior.image_shape[0]
    nouns = ["teddy bear", "armchair", "hamburger", "barrel"]
    library = load_object_views(nouns=nouns)
    views = np.concatenate([box_downsample(v[:4] / 255, size) for v in library.rgba])
    x = jnp.asarray(2 * (views[..., :3] * views[..., 3:] + 0.5 * (1 - views[..., 3:])) - 1)
    t = jnp.full(len(x), 0.75)
    alpha, sigma = (a[:, None, None, None] for a in prior.schedule.alpha_sigma(t))
    eps = jax.random.normal(jax.random.key(0), x.shape)
    z_t = alpha * x + sigma * eps
    eps_hat = jax.jit(prior.eps_hat)

    def error(names):
        embeddings = prior.encode([f"a {name}" for name in np.repeat(names, 4)])
        return float(jnp.mean((eps_hat(prior.params, z_t, t, embeddings) - eps) ** 2))

    right, wrong = error(nouns), error(nouns[1:] + nouns[:1])
    assert right < 0.8 * wrong
    assert prior.unknown_words("a teddy bear zeppelin") == ["zeppelin"]


@pytest.mark.parametrize("word", ["red", "blue", "green"])
def test_objects_have_the_color_that_a_prompt_says(word):
    prompts = [f"a {word} teapot", "a teapot"]
    prior = load_prior("furniture-views", image_size=32, prompts=prompts)
    matches = np.asarray(prior.encode([f"{p}, front view" for p in prompts]).states[:, 0])
    assert matches[0].any() and not (matches[0] * matches[1]).any()
    shades = []
    for row in matches:
        seen = np.asarray(prior.params["foreground"])[row > 0]
        alpha = 1 - np.asarray(prior.params["behind"])[row > 0]
        rgb = (seen + alpha[:, None]) / 2 / np.maximum(alpha[:, None], 1e-6)
        pixels = np.concatenate([rgb, alpha[:, None]], 1).transpose(0, 2, 1)
        shades.append(dominant_color(to_uint8(pixels)[:, None]))
    assert shades[0] == word and shades[1] != word
    poses = prior.cameras(prompts[0])
    assert len(poses.focal) == len(prior.cameras(prompts[1]).focal) == 144
