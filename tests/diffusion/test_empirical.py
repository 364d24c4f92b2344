import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.cfg import guided_eps
from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior, matching
from dreamfusion_jax.diffusion.prior import encode_rows
from dreamfusion_jax.furniture.exact_prior import furniture_views
from dreamfusion_jax.prompts.view_prompts import VIEW_WORDS

SIZE = 4


def make_prior(opaque: bool, **kwargs) -> EmpiricalPrior:
    rng = np.random.default_rng(0)
    rgba = rng.random((6, SIZE, SIZE, 4)).astype(np.float32)
    rgba[..., 3] = 1 if opaque else (rgba[..., 3] > 0.5)
    captions = [
        Caption(noun, synonyms, (VIEW_WORDS[i],))
        for noun, synonyms in (("table", ()), ("coffee table", ("tea table",)))
        for i in range(3)
    ]
    return EmpiricalPrior.from_images(rgba, captions, **kwargs)


@pytest.mark.slow
def test_opaque_pictures_match_the_softmax_of_distances():
    prior = make_prior(opaque=True)
    z = jax.random.normal(jax.random.key(1), (2, SIZE, SIZE, 3))
    alpha, sigma = jnp.array([0.6, 0.3]), jnp.array([0.8, 0.954])
    mean = prior.posterior_mean(prior.params, z, alpha, sigma, jnp.ones((2, 6)))
    x = prior.params["foreground"].reshape(6, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    for b in range(2):
        distance = jnp.sum((z[b] - alpha[b] * x) ** 2, axis=(1, 2, 3))
        weights = jax.nn.softmax(-distance / (2 * sigma[b] ** 2))
        expected = jnp.einsum("n,nhwc->hwc", weights, x)
        np.testing.assert_allclose(mean[b], expected, atol=1e-5)


@pytest.mark.slow
def test_background_is_marginalized_as_monte_carlo_does():
    prior = make_prior(opaque=False)
    key_z, key_b = jax.random.split(jax.random.key(2))
    z = jax.random.normal(key_z, (1, SIZE, SIZE, 3))
    alpha, sigma = jnp.array([0.5]), jnp.array([0.866])
    mean = prior.posterior_mean(prior.params, z, alpha, sigma, jnp.ones((1, 6)))

    colors = prior.background_std * jax.random.normal(key_b, (40_000, 3))
    foreground = prior.params["foreground"].reshape(6, 1, 3, SIZE, SIZE)
    behind = prior.params["behind"].reshape(6, 1, 1, SIZE, SIZE)

    def log_weight(i):
        x = foreground[i] + behind[i] * colors[:, :, None, None]
        return -jnp.sum((z[0].transpose(2, 0, 1) - 0.5 * x) ** 2, (1, 2, 3)) / (2 * 0.75)

    weights = jax.nn.softmax(jnp.stack([log_weight(i) for i in range(6)]).reshape(-1))
    weights = weights.reshape(6, -1)
    expected = sum(
        jnp.einsum("k,kchw->hwc", weights[i], foreground[i] + behind[i] * colors[:, :, None, None])
        for i in range(6)
    )
    np.testing.assert_allclose(mean[0], expected, atol=0.02)


def test_little_noise_gives_the_picture_back():
    prior = make_prior(opaque=True)
    x = prior.params["foreground"][4].reshape(3, SIZE, SIZE).transpose(1, 2, 0)[None]
    alpha, sigma = prior.schedule.alpha_sigma(jnp.array([0.05]))
    mean = prior.posterior_mean(prior.params, alpha * x, alpha, sigma, jnp.ones((1, 6)))
    np.testing.assert_allclose(mean, x, atol=1e-4)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a table", [1, 1, 1, 0, 0, 0]),
        ("a DSLR photo of a coffee table", [0, 0, 0, 1, 1, 1]),
        ("tea tables, side view", [0, 0, 0, 0, 1, 0]),
        ("a table, overhead view", [1, 1, 1, 0, 0, 0]),  # no such view: any of the noun
        ("", [1, 1, 1, 1, 1, 1]),
        ("a unicorn, back view", [0, 0, 1, 0, 0, 1]),
    ],
)
def test_prompts_choose_pictures(prompt, expected):
    states = make_prior(opaque=True).encode([prompt]).states
    np.testing.assert_array_equal(states[0, 0], expected)


def test_pictures_in_another_look_are_meant_where_it_is_said():
    captions = [
        Caption(noun, (), ("front view", "side view")[i : i + 1], look)
        for noun in ("table", "chair")
        for i in (0, 1)
        for look in ("", "white clay")
    ]
    for prompt, expected in {
        "a table": [1, 0, 1, 0, 0, 0, 0, 0],
        "a table, white clay": [0, 1, 0, 1, 0, 0, 0, 0],
        "a chair, side view, white clay": [0, 0, 0, 0, 0, 0, 0, 1],
        "a white chair": [0, 0, 0, 0, 1, 0, 1, 0],
        "": [1] * 8,
    }.items():
        np.testing.assert_array_equal(matching(prompt, captions), expected)


def test_unknown_words_are_named():
    prior = make_prior(opaque=True)
    assert prior.unknown_words("a DSLR photo of a purple coffee table, front view") == ["purple"]
    assert prior.unknown_words("two tables") == ["two"]
    assert prior.unknown_words("猫, ein Teddybär") == ["猫", "ein", "teddybär"]
    assert prior.unknown_words("a dog's table") == ["dog"]


@pytest.mark.slow
def test_pictures_of_one_prompt_predict_the_same():
    prompt = "a teddy bear, front view at eye level"
    few, prior = furniture_views(8, [prompt]), furniture_views(8)
    assert 0 < 20 * len(few.captions) < len(prior.captions)
    z, t = jax.random.normal(jax.random.key(3), (1, 8, 8, 3)), jnp.array([0.5])
    full = prior.eps_hat(prior.params, z, t, prior.encode([prompt]))
    np.testing.assert_allclose(few.eps_hat(few.params, z, t, few.encode([prompt])), full, atol=1e-5)


def test_guidance_has_the_papers_convention():
    prior = make_prior(opaque=True)
    z, t = jax.random.normal(jax.random.key(4), (2, SIZE, SIZE, 3)), jnp.array([0.9, 0.8])
    embeddings = encode_rows(prior, positive=["a table", "a coffee table"], empty=["", ""])
    guided = guided_eps(prior, prior.params, z, t, embeddings, guidance_weight=7.0)
    eps_y = prior.eps_hat(prior.params, z, t, prior.encode(["a table", "a coffee table"]))
    eps_empty = prior.eps_hat(prior.params, z, t, prior.encode(["", ""]))
    np.testing.assert_allclose(guided, 8 * eps_y - 7 * eps_empty, atol=1e-4)
    unguided = guided_eps(prior, prior.params, z, t, embeddings, guidance_weight=0.0)
    np.testing.assert_allclose(unguided, eps_y, atol=1e-6)
