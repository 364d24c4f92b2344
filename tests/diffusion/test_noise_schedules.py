import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion import noise_schedules
from dreamfusion_jax.errors import UserError

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_networks import SCHEDULERS  # noqa: E402

SCHEDULES = {
    "cosine": noise_schedules.CosineSchedule(),
    "linear": noise_schedules.DiscreteSchedule(noise_schedules.linear_betas()),
    "scaled_linear": noise_schedules.DiscreteSchedule(noise_schedules.scaled_linear_betas()),
    "squaredcos": noise_schedules.DiscreteSchedule(noise_schedules.squaredcos_betas()),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_variance_is_preserved_and_signal_falls(name):
    alpha, sigma = SCHEDULES[name].alpha_sigma(jnp.linspace(0, 1, 101))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=2e-6)
    assert np.all(np.diff(alpha) < 0)
    assert alpha[0] > 0.99 and alpha[-1] < 0.1


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos"])
def test_discrete_schedule_is_exact_at_its_steps(name):
    schedule = SCHEDULES[name]
    expected = np.cumprod(1 - np.asarray(schedule.betas))
    t = jnp.arange(schedule.num_steps) / (schedule.num_steps - 1)
    alpha, _ = schedule.alpha_sigma(t)
    np.testing.assert_allclose(alpha**2, expected, rtol=2e-4, atol=1e-9)


def test_published_end_points():
    # alpha_bar at the last step of Stable Diffusion's schedule, from its published betas.
    alpha, _ = SCHEDULES["scaled_linear"].alpha_sigma(jnp.ones(()))
    assert float(alpha) ** 2 == pytest.approx(0.0047, abs=1e-4)
    assert noise_schedules.squaredcos_betas()[-1] == 0.999


@pytest.mark.parametrize("name", SCHEDULERS)
def test_alphas_are_those_of_diffusers(name):
    schedule = noise_schedules.schedule_from_config(SCHEDULERS[name])
    alpha, _ = schedule.alpha_sigma(jnp.arange(schedule.num_steps) / (schedule.num_steps - 1))
    expected = np.load(GOLDEN / "networks.npz")[f"schedule/{name}"]
    found = np.asarray(alpha)[:: schedule.num_steps // 50] ** 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_schedules_of_configs():
    given = noise_schedules.schedule_from_config({"trained_betas": [0.1, 0.2]})
    assert given.betas == (0.1, 0.2)
    with pytest.raises(UserError, match="beta_schedule='sigmoid'"):
        noise_schedules.schedule_from_config({"beta_schedule": "sigmoid"})


@pytest.mark.parametrize(
    "config",
    [
        {"trained_betas": [0.1, float("nan")]},
        {"trained_betas": [0.1, 1.5]},
        {"trained_betas": "0.1"},
        {"trained_betas": [[0.1, 0.2]]},
        {"beta_start": float("nan")},
        {"beta_start": "0.1"},
        {"beta_end": 2.0},
        {"num_train_timesteps": 10**12},
        {"num_train_timesteps": 10.5},
        {"num_train_timesteps": True},
        {"beta_schedule": ["linear"]},
        {"_class_name": "EDMEulerScheduler"},
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        {"_class_name": ["DDPMScheduler"]},
        {"_class_name": ["DDPMScheduler"] * 1000},
        {"beta_schedule": "x" * 5000},
        {"beta_end": 10**400},
        {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True},
    ],
)
def test_what_is_no_schedule_is_refused(config):
    with pytest.raises(UserError, match="scheduler's config") as caught:
        noise_schedules.schedule_from_config(config)
    assert len(str(caught.value)) < 400


def test_rescaled_betas_end_without_signal():
    """Algorithm 1 of Lin et al.: the root of alpha_bar is shifted and scaled, its start stays."""
    plain = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    betas = [
        np.asarray(noise_schedules.schedule_from_config(plain | more).betas)
        for more in ({}, {"rescale_betas_zero_snr": True})
    ]
    before, after = (np.sqrt(np.cumprod(1 - b)) for b in betas)
    assert after[0] == pytest.approx(before[0], rel=1e-12)
    assert after[-1] ** 2 == pytest.approx(2.0**-24, rel=1e-6)
    expected = (before - before[-1]) * before[0] / (before[0] - before[-1])
    np.testing.assert_allclose(after[:-1], expected[:-1], rtol=1e-9)
