import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.noise_schedules import (
    CosineSchedule,
    DiscreteSchedule,
    Schedule,
    scaled_linear_betas,
    squaredcos_betas,
)
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.diffusion.samplers import ancestral_sample, dynamic_threshold, sample
from dreamfusion_jax.types import Conditioning


@dataclasses.dataclass(frozen=True)
class GaussianPrior(Prior):
    """The exact denoiser of x ~ N(mean, std^2), where the mean is the text's only number."""

    std: float
    schedule: Schedule = CosineSchedule()
    image_shape: tuple[int, int, int] = (4, 4, 3)
    params = None

    def encode(self, prompts):
        return embeddings([float(prompt) for prompt in prompts])

    def unknown_words(self, prompt):
        return []

    def eps_hat(self, params, z_t, t, embeddings):
        alpha, sigma = (a[:, None, None, None] for a in self.schedule.alpha_sigma(t))
        mean = embeddings.states[:, :1, :, None]
        return sigma * (z_t - alpha * mean) / (alpha**2 * self.std**2 + sigma**2)


def rows_of(means, empty=0.0):
    return {"positive": embeddings(means), "empty": embeddings([empty] * len(means))}


def embeddings(means):
    states = jnp.asarray(means, jnp.float32)[:, None, None]
    return Conditioning(states=states, mask=jnp.ones(states.shape[:2], bool))


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("schedule", [CosineSchedule(), DiscreteSchedule(scaled_linear_betas())])
def test_moments_of_a_gaussian(eta, schedule):
    prior = GaussianPrior(0.3, schedule)
    batch = 256
    rows = rows_of([0.5] * batch)
    x = sample(
        prior,
        None,
        jax.random.key(0),
        rows,
        steps=500,
        guidance_weight=0.0,
        eta=eta,
        percentile=None,
    )
    # Published schedules keep some signal at t = 1 that pure noise lacks: without new noise
    # the mean falls short by what the flow carries over of it.
    alpha, sigma = schedule.alpha_sigma(jnp.ones(()))
    missing = 0.3 * alpha * 0.5 / jnp.sqrt(alpha**2 * 0.3**2 + sigma**2) if eta == 0 else 0.0
    # 12,288 values: standard errors 0.0027 and 0.0019; the rest is the size of the steps.
    assert float(x.mean()) == pytest.approx(float(0.5 - missing), abs=0.012)
    assert float(x.std()) == pytest.approx(0.3, rel=0.04)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("betas", [scaled_linear_betas(), squaredcos_betas()])
def test_the_last_step_ends_at_the_predicted_image(eta, betas):
    """Without noise, also where the first discrete step has some: x_hat is the mean itself."""
    prior = GaussianPrior(0.0, DiscreteSchedule(betas))
    x = sample(
        prior,
        None,
        jax.random.key(0),
        rows_of([0.5]),
        steps=3,
        guidance_weight=0.0,
        eta=eta,
        percentile=None,
    )
    np.testing.assert_allclose(x, 0.5, atol=1e-4)


def test_guidance_moves_the_mean_as_the_paper_defines_it():
    """Gaussians of one width: guidance gives the mean (1 + omega) mu_y - omega mu_empty."""
    prior = GaussianPrior(0.2)
    x = ancestral_sample(
        prior,
        None,
        jax.random.key(1),
        rows_of([0.3] * 128, 0.1),
        steps=100,
        guidance_weight=1.5,
        percentile=None,
    )
    assert float(x.mean()) == pytest.approx(2.5 * 0.3 - 1.5 * 0.1, abs=0.015)


@pytest.mark.slow
def test_same_key_same_images_and_ddim_adds_no_noise():
    prior = GaussianPrior(0.3)
    rows = rows_of([0.0, 0.4])

    def draw(seed, eta):
        key = jax.random.key(seed)
        return np.asarray(sample(prior, None, key, rows, steps=3, guidance_weight=0.0, eta=eta))

    np.testing.assert_array_equal(draw(0, 1.0), draw(0, 1.0))
    assert np.abs(draw(0, 1.0) - draw(1, 1.0)).max() > 0.1
    # The deterministic path keeps the order of the starting noise; the noisy one cannot.
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), 3), (2, 4, 4, 3))
    order = np.corrcoef(np.ravel(draw(0, 0.0)[0]), np.ravel(noise[0]))[0, 1]
    assert order > 0.999
    assert np.corrcoef(np.ravel(draw(0, 1.0)[0]), np.ravel(noise[0]))[0, 1] < 0.95


def test_dynamic_threshold():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 8, 3)).astype(np.float32) * np.array([3.0, 0.2])[
        :, None, None, None
    ].astype(np.float32)
    out = np.asarray(dynamic_threshold(jnp.asarray(x), 90.0))
    s = np.percentile(np.abs(x[0]), 90)
    np.testing.assert_allclose(out[0], np.clip(x[0], -s, s) / s, rtol=1e-5)
    np.testing.assert_array_equal(out[1], x[1])  # inside [-1, 1] nothing changes


@pytest.mark.slow
def test_threshold_bounds_the_samples():
    prior = GaussianPrior(0.01)
    rows = rows_of([4.0])
    options = {"steps": 20, "guidance_weight": 0.0}
    free = sample(prior, None, jax.random.key(0), rows, percentile=None, **options)
    bounded = sample(prior, None, jax.random.key(0), rows, percentile=99.5, **options)
    assert float(free.mean()) > 3.9
    assert 0.9 < float(bounded.max()) <= 1.0 + 1e-5
