import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.diffusion.noise_schedules import CosineSchedule
from dreamfusion_jax.diffusion.prior import Prior, encode_rows
from dreamfusion_jax.guidance import sds
from dreamfusion_jax.guidance.sds_sample import sds_sample
from dreamfusion_jax.types import Conditioning

SHAPE = (4, 4, 3)


@dataclasses.dataclass(frozen=True)
class GaussianPrior(Prior):
    """The exact denoiser of images ~ N(mean, std^2 I): differentiable and known."""

    params: None = None
    std: float = 0.5
    image_shape: tuple = SHAPE
    schedule: CosineSchedule = CosineSchedule()

    def encode(self, prompts):
        return rows(len(prompts))["positive"]

    def unknown_words(self, prompt):
        return []

    def eps_hat(self, params, z_t, t, embeddings):
        alpha, sigma = (a[:, None, None, None] for a in self.schedule.alpha_sigma(t))
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        x = params["mean"] + gain * (z_t - alpha * params["mean"])
        return (z_t - alpha * x) / sigma


PRIOR, PARAMS = GaussianPrior(), {"mean": jnp.full((1, 1, 1, 3), 0.25)}
KEY = jax.random.key(0)


def rows(batch: int) -> dict[str, Conditioning]:
    one = Conditioning(jnp.zeros((batch, 1, 1)), jnp.ones((batch, 1), bool))
    return {"positive": one, "empty": one}


def images(batch: int):
    return jax.random.uniform(jax.random.key(7), (batch, *SHAPE), minval=-1, maxval=1)


@pytest.mark.parametrize("weighting", sds.WEIGHTINGS)
def test_gradient_is_the_weighted_noise_residual(weighting):
    """Recovers eps from z_t, which a recording prior sees, and checks the formula."""
    seen = {}

    class Recorder(GaussianPrior):
        def eps_hat(self, params, z_t, t, embeddings):
            seen.update(z_t=z_t, t=t)
            return super().eps_hat(params, z_t, t, embeddings)

    x = images(3)
    gradient, aux = sds.sds_gradient(
        Recorder(), PARAMS, x, rows(3), KEY, guidance_weight=0.0, weighting=weighting
    )
    alpha, sigma = (a[:, None, None, None] for a in PRIOR.schedule.alpha_sigma(seen["t"]))
    eps = (seen["z_t"] - alpha * x) / sigma
    assert abs(float(eps.mean())) < 0.3 and abs(float(eps.std()) - 1) < 0.2
    weight = sigma**2 if weighting == "sigma_squared" else 1.0
    expected = weight * (PRIOR.eps_hat(PARAMS, seen["z_t"], seen["t"], None) - eps)
    np.testing.assert_allclose(gradient, expected, atol=1e-4)
    assert np.all((aux.t > 0.02) & (aux.t < 0.98))


def test_gradient_is_zero_where_the_prior_predicts_the_noise():
    class Oracle(GaussianPrior):
        def eps_hat(self, params, z_t, t, embeddings):
            alpha, sigma = (a[:, None, None, None] for a in self.schedule.alpha_sigma(t))
            both_halves = jnp.concatenate([params["x"], params["x"]])
            return (z_t - alpha * both_halves) / sigma

    x = images(2)
    gradient, _ = sds.sds_gradient(
        Oracle(), {"x": x}, x, rows(2), KEY, t_range=(0.2, 0.98), guidance_weight=20.0
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_nothing_flows_through_the_prior_but_in_the_ablation():
    def scale(loss):
        def total(params):
            gradient, _ = loss(PRIOR, params, images(2), rows(2), KEY, guidance_weight=0.0)
            return jnp.sum(gradient**2)

        return float(jnp.abs(jax.grad(total)(PARAMS)["mean"]).max())

    assert scale(sds.sds_gradient) == 0
    assert scale(sds.diffusion_loss_gradient) > 1e-3


@pytest.mark.slow
def test_diffusion_loss_gradient_is_the_gradient_of_the_loss():
    x, t_range = images(2), (0.3, 0.9)

    def settings(weight):
        return {"guidance_weight": 0.0, "t_range": t_range, "weighting": weight}

    gradient, _ = sds.diffusion_loss_gradient(PRIOR, PARAMS, x, rows(2), KEY, **settings("uniform"))
    direct, aux = sds.sds_gradient(PRIOR, PARAMS, x, rows(2), KEY, **settings("uniform"))
    # For this linear prior d eps_hat / dz_t is a number: (1 - alpha gain) / sigma.
    alpha, sigma = (a[:, None, None, None] for a in PRIOR.schedule.alpha_sigma(aux.t))
    gain = alpha * PRIOR.std**2 / (alpha**2 * PRIOR.std**2 + sigma**2)
    np.testing.assert_allclose(gradient, direct * (1 - alpha * gain) / sigma, atol=1e-4)


@pytest.mark.slow
def test_keys_per_image_make_images_independent_of_the_batch():
    x, keys = images(3), jax.random.split(KEY, 3)
    together, _ = sds.sds_gradient(PRIOR, PARAMS, x, rows(3), keys)
    alone, _ = sds.sds_gradient(PRIOR, PARAMS, x[1:2], rows(1), keys[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


def test_subtracting_the_noise_lowers_the_variance():
    prior, seen = dataclasses.replace(PRIOR, std=0.2), {}

    class Recorder(GaussianPrior):
        def eps_hat(self, params, z_t, t, embeddings):
            seen["eps_hat"] = prior.eps_hat(params, z_t, t, embeddings)
            return seen["eps_hat"]

    x = jnp.broadcast_to(PARAMS["mean"], (100, *SHAPE))
    gradient, aux = sds.sds_gradient(Recorder(), PARAMS, x, rows(100), KEY, guidance_weight=0.0)
    with_noise = aux.weight[:, None, None, None] * seen["eps_hat"]
    assert float(gradient.std()) < 0.5 * float(with_noise.std())
    # The mean, an unbiased estimate of the same, is 0 at the mode.
    assert abs(float(gradient.mean())) < 0.01 and abs(float(with_noise.mean())) < 0.05


def test_times_are_uniform_over_their_range():
    _, aux = sds.sds_gradient(PRIOR, PARAMS, images(4000), rows(4000), KEY, guidance_weight=0.0)
    assert float(aux.t.min()) == pytest.approx(0.02, abs=2e-3) and float(aux.t.min()) >= 0.02
    assert float(aux.t.max()) == pytest.approx(0.98, abs=2e-3) and float(aux.t.max()) <= 0.98
    assert float(aux.t.mean()) == pytest.approx(0.5, abs=0.02)


def test_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="squared"):
        sds.sds_gradient(PRIOR, PARAMS, images(1), rows(1), KEY, weighting="squared")


def test_sds_in_image_space_reaches_a_mode_of_the_empirical_prior():
    rng = np.random.default_rng(3)
    rgba = rng.random((4, 8, 8, 4)).astype(np.float32)
    rgba[..., 3] = 1
    nouns = ("cat", "cat", "dog", "dog")
    prior = EmpiricalPrior.from_images(rgba, [Caption(n, (), ("front view",)) for n in nouns])
    embeddings = encode_rows(prior, positive=["a cat", "a cat", "a dog"], empty=[""] * 3)
    x = sds_sample(
        prior, prior.params, embeddings, KEY, steps=200, learning_rate=0.1, guidance_weight=0.0
    )
    modes = 2 * rgba[..., :3] - 1
    distance = np.abs(np.asarray(x)[:, None] - modes[None]).mean((2, 3, 4))
    assert np.all(distance.min(axis=1) < 0.1)
    np.testing.assert_array_equal(distance.argmin(axis=1) // 2, [0, 0, 1])


@pytest.mark.parametrize("width", [8, 5])
def test_mirrored_images_equal_their_mirror_image(width):
    """What is distilled is then the mean of the only picture and its mirror image."""
    rng = np.random.default_rng(4)
    rgba = rng.random((1, width, width, 4)).astype(np.float32)
    rgba[..., 3] = 1
    prior = EmpiricalPrior.from_images(rgba, [Caption("cat", (), ("front view",))])
    embeddings = encode_rows(prior, positive=["a cat"], empty=[""])
    settings = {"steps": 200, "learning_rate": 0.1, "guidance_weight": 0.0}
    x = sds_sample(prior, prior.params, embeddings, KEY, mirrored=True, **settings)
    np.testing.assert_array_equal(x, x[:, :, ::-1])
    image = 2 * rgba[..., :3] - 1
    np.testing.assert_allclose(x, (image + image[:, :, ::-1]) / 2, atol=0.1)
