"""Variance-preserving noise schedules: z_t = alpha_t x + sigma_t eps, alpha^2 + sigma^2 = 1."""

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import is_number
from dreamfusion_jax.model_files import shown


@runtime_checkable
class Schedule(Protocol):
    """Maps continuous time t in [0, 1] (0 clean, 1 noise) to (alpha_t, sigma_t)."""

    def alpha_sigma(
        self, t: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
        """Return the signal's and the noise's scale at t."""


@dataclasses.dataclass(frozen=True)
class CosineSchedule:
    """The continuous cosine schedule: alpha_t = cos(pi t / 2) (Nichol and Dhariwal 2021).

    `t_max` keeps a little signal at t = 1, so that eps <-> x conversions stay finite.
    """

    t_max: float = 0.9946  # alpha at t = 1 is then 0.0085, logSNR -9.5

    def alpha_sigma(
        self, t: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
        """Return the signal's and the noise's scale at t."""
        angle = jnp.asarray(t) * (self.t_max * math.pi / 2)
        return jnp.cos(angle), jnp.sin(angle)


@dataclasses.dataclass(frozen=True)
class DiscreteSchedule:
    """A schedule given by betas of discrete steps, as published models use it.

    Continuous t in [0, 1] is mapped to the steps 0 .. n - 1 and alpha_bar is
    interpolated linearly in log between them; at step times it is exact.
    """

    betas: tuple[float, ...]

    @property
    def num_steps(self) -> int:
        """The number of discrete steps."""
        return len(self.betas)

    def step(self, t: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Return the (fractional) discrete step that t stands for, in [0, n - 1]."""
        return jnp.clip(jnp.asarray(t), 0.0, 1.0) * (self.num_steps - 1)

    def alpha_sigma(
        self, t: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
        """Return the signal's and the noise's scale at t."""
        log_alpha_bar = np.cumsum(np.log1p(-np.asarray(self.betas, np.float64)))
        grid = np.arange(self.num_steps, dtype=np.float32)
        log_bar = jnp.interp(self.step(t), grid, log_alpha_bar.astype(np.float32))
        return jnp.exp(0.5 * log_bar), jnp.sqrt(-jnp.expm1(log_bar))


def linear_betas(n: int = 1000, start: float = 1e-4, end: float = 0.02) -> tuple[float, ...]:
    """Return betas linear in the step (Ho et al. 2020)."""
    return tuple(np.linspace(start, end, n).tolist())


def scaled_linear_betas(
    n: int = 1000, start: float = 0.00085, end: float = 0.012
) -> tuple[float, ...]:
    """Return betas whose square root is linear in the step (Stable Diffusion)."""
    return tuple((np.linspace(start**0.5, end**0.5, n) ** 2).tolist())


def squaredcos_betas(n: int = 1000, max_beta: float = 0.999) -> tuple[float, ...]:
    """squaredcos_cap_v2: alpha_bar(s) = cos^2((s + 0.008) / 1.008 pi / 2) (DeepFloyd IF)."""
    s = np.arange(n + 1) / n
    alpha_bar = np.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2
    return tuple(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], max_beta).tolist())


_BETAS = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": lambda n, start, end: squaredcos_betas(n),
}


# Samplers of variance-preserving models; others (EDM, flow matching) are of other processes.
_SAMPLERS = (
    *("DDPM", "DDIM", "PNDM", "IPNDM", "LMS", "Euler", "Heun", "KDPM2", "DPM", "DEIS"),
    *("UniPC", "LCM", "TCD", "Deprecated"),
)
_MOST_STEPS = 100_000


def schedule_from_config(config: dict[str, Any]) -> DiscreteSchedule:
    """Return the schedule of a diffusers `scheduler_config.json`.

    Raises:
      UserError: it is not of a variance-preserving process with discrete steps, or a value makes no
        sense.
    """
    kind = config.get("_class_name") or "DDPMScheduler"
    flow = config.get("use_flow_sigmas") or not str(kind).startswith(_SAMPLERS)
    if flow:
        raise UserError(
            f"the scheduler's config is of a {shown(kind)}: models of another process than DDPM's "
            "(flow matching, EDM) are not supported; choose another one"
        )
    betas = np.array(_betas(config), np.float64)
    if not (2 <= len(betas) <= _MOST_STEPS and np.all((betas > 0) & (betas < 1))):
        raise UserError(
            f"the scheduler's config gives {len(betas)} betas that are not all numbers between 0 "
            "and 1; fetch it again"
        )
    if config.get("rescale_betas_zero_snr"):
        betas = zero_snr_betas(betas)
    return DiscreteSchedule(tuple(betas.tolist()))


def zero_snr_betas(betas: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Return betas with no signal left at the last step (Lin et al. 2024, Algorithm 1).

    All but none: alpha_bar ends at 2^-24, so that its logarithm and 1 / alpha stay finite.
    """
    root = np.sqrt(np.cumprod(1 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = np.maximum(root**2, 2.0**-24)
    return 1 - alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]])


def _betas(config: dict[str, Any]) -> list[float] | tuple[float, ...]:
    trained = config.get("trained_betas")
    kind = config.get("beta_schedule", "linear")
    count = config.get("num_train_timesteps", 1000)
    ends = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if trained is not None:
        known = isinstance(trained, list) and all(map(is_number, trained))
    else:
        known = type(count) is int and 2 <= count <= _MOST_STEPS and all(map(is_number, ends))
        known = known and min(ends) > 0
    if not known:
        raise UserError(
            "the scheduler's config has trained_betas, num_train_timesteps, beta_start or beta_end "
            "that are no numbers of steps and betas; fetch it again"
        )
    if trained is not None:
        return trained
    if not isinstance(kind, str) or kind not in _BETAS:
        raise UserError(
            f"the scheduler's config has beta_schedule={shown(kind)}; "
            f"supported: {', '.join(_BETAS)}"
        )
    return _BETAS[kind](count, *ends)
