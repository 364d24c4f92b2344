"""Variance-preserving noise schedules: z_t = alpha_t x + sigma_t eps, alpha^2 + sigma^2 = 1."""

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dreamfusion_jax.errors import UserError


@runtime_checkable
class Schedule(Protocol):
    """Maps continuous time t in [0, 1] (0 clean, 1 noise) to (alpha_t, sigma_t)."""

    def alpha_sigma(
        self, t: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
        """The signal's and the noise's scale at t."""


@dataclasses.dataclass(frozen=True)
class CosineSchedule:
    """The continuous cosine schedule: alpha_t = cos(pi t / 2) (Nichol and Dhariwal 2021).

    `t_max` keeps a little signal at t = 1, so that eps <-> x conversions stay finite.
    """

    t_max: float = 0.9946  # alpha at t = 1 is then 0.0085, logSNR -9.5

    def alpha_sigma(
        self, t: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
        """The signal's and the noise's scale at t."""
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
        """The (fractional) discrete step that t stands for, in [0, n - 1]."""
        return jnp.clip(jnp.asarray(t), 0.0, 1.0) * (self.num_steps - 1)

    def alpha_sigma(
        self, t: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
        """The signal's and the noise's scale at t."""
        log_alpha_bar = np.cumsum(np.log1p(-np.asarray(self.betas, np.float64)))
        grid = np.arange(self.num_steps, dtype=np.float32)
        log_bar = jnp.interp(self.step(t), grid, log_alpha_bar.astype(np.float32))
        return jnp.exp(0.5 * log_bar), jnp.sqrt(-jnp.expm1(log_bar))


def linear_betas(n: int = 1000, start: float = 1e-4, end: float = 0.02) -> tuple[float, ...]:
    """Betas linear in the step (Ho et al. 2020)."""
    return tuple(np.linspace(start, end, n).tolist())


def scaled_linear_betas(
    n: int = 1000, start: float = 0.00085, end: float = 0.012
) -> tuple[float, ...]:
    """Betas whose square root is linear in the step (Stable Diffusion)."""
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


def schedule_from_config(config: dict[str, Any]) -> DiscreteSchedule:
    """The schedule of a diffusers `scheduler_config.json`; UserError where it is not known."""
    if config.get("rescale_betas_zero_snr"):
        raise UserError(
            "the scheduler's config has rescale_betas_zero_snr: models that were trained with a "
            "step without any signal are not supported; choose another one"
        )
    if config.get("trained_betas") is not None:
        return DiscreteSchedule(tuple(config["trained_betas"]))
    kind = config.get("beta_schedule", "linear")
    if kind not in _BETAS:
        raise UserError(
            f"the scheduler's config has beta_schedule={kind!r}; supported: {', '.join(_BETAS)}"
        )
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    return DiscreteSchedule(_BETAS[kind](config.get("num_train_timesteps", 1000), start, end))
