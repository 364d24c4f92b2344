"""Regularizers of the geometry and their schedules (paper appendix A.2)."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dreamfusion_jax import registry
from dreamfusion_jax.registry import register
from dreamfusion_jax.schedules import Ramp
from dreamfusion_jax.types import RenderOutput


@dataclasses.dataclass(frozen=True)
class Regularizer(Ramp, abc.ABC):
    """A term of the loss on rendered views; as a ramp it is its own weight at a step.

    A class of its own is registered with `@register("regularizer", NAME)`; `config.regularizers`
    has what is used, by name, and the log has each term before it is weighted.
    """

    start: float = 0.0
    end: float = 0.0
    steps: int = 1

    @abc.abstractmethod
    def of(self, views: RenderOutput, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the term, the mean over [views, height, width, ...]."""

    @property
    def is_used(self) -> bool:
        """Whether it ever has any weight."""
        return self.start != 0 or self.end != 0


@register("regularizer", "orientation")
@dataclasses.dataclass(frozen=True)
class Orientation(Regularizer):
    """Ref-NeRF's penalty on normals that face away (paper appendix A.2)."""

    def of(self, views: RenderOutput, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the mean over rays of `orientation_penalty`."""
        return jnp.mean(views.orientation)


@register("regularizer", "opacity")
@dataclasses.dataclass(frozen=True)
class Opacity(Regularizer):
    """The penalty on opacity along rays (paper appendix A.2)."""

    def of(self, views: RenderOutput, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the mean over rays of `opacity_penalty`."""
        return jnp.mean(opacity_penalty(views.opacity))


@register("regularizer", "entropy")
@dataclasses.dataclass(frozen=True)
class Entropy(Regularizer):
    """The entropy of the opacity of rays (not in the paper)."""

    def of(self, views: RenderOutput, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the mean over rays of `entropy_penalty`."""
        return jnp.mean(entropy_penalty(views.opacity))


@register("regularizer", "transmittance")
@dataclasses.dataclass(frozen=True)
class Transmittance(Regularizer):
    """-min(tau, mean transmittance of a view), Dream Fields' Eq. 8 (section 4.5).

    The target opacity 1 - tau goes exponentially from 1 - target_start to 1 - target_end in
    `target_steps` steps.
    """

    target_start: float = 0.4
    target_end: float = 0.88
    target_steps: int = 500

    def __post_init__(self):
        for name, target in (("target_start", self.target_start), ("target_end", self.target_end)):
            if not 0 <= target < 1:
                raise ValueError(f"{name} is {target}; it must lie within [0, 1).")

    def of(self, views: RenderOutput, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the mean over views."""
        part = jnp.clip(step / max(self.target_steps, 1), 0.0, 1.0)
        start, end = 1 - self.target_start, 1 - self.target_end
        target = start * (end / start) ** part
        transmittance = 1 - jnp.mean(views.opacity, axis=(-2, -1))
        return -jnp.mean(jnp.minimum(1 - target, transmittance))


def build_regularizers(config: registry.Keys) -> tuple[tuple[str, Regularizer], ...]:
    """Return the regularizers of `config.regularizers` that ever have any weight, by name.

    Raises:
      UserError: there is no such regularizer, or it refuses a value.
    """
    known = registry.names("regularizer")
    # A config's keys are sorted: the order of the sum is that in which they were registered.
    ordered = [*(name for name in known if name in config), *(n for n in config if n not in known)]
    built = [
        (
            name,
            registry.build("regularizer", {"name": name, **config[name]}, f"regularizers.{name}"),
        )
        for name in ordered
    ]
    return tuple((name, term) for name, term in built if term.is_used)


def orientation_penalty(
    weights: Float[Array, "*rays samples"],
    normals: Float[Array, "*rays samples 3"],
    directions: Float[Array, "*rays 3"],
) -> Float[Array, "*rays"]:
    """sum_i stop_gradient(w_i) max(0, n_i . v)^2: normals must not face away (Ref-NeRF Eq. 11)."""
    facing_away = jnp.maximum(jnp.einsum("...sc,...c->...s", normals, directions), 0.0)
    return jnp.sum(jax.lax.stop_gradient(weights) * facing_away**2, axis=-1)


def opacity_penalty(opacity: Float[Array, "*rays"]) -> Float[Array, "*rays"]:
    """sqrt((sum_i w_i)^2 + 0.01): empties rays that see no object."""
    return jnp.sqrt(opacity**2 + 0.01)


def entropy_penalty(opacity: Float[Array, "*rays"]) -> Float[Array, "*rays"]:
    """-o log o - (1 - o) log(1 - o): rays see an object or they do not (not in the paper).

    Its slope grows as the opacity falls, so it also clears the thin haze that the
    opacity penalty leaves.
    """
    o = jnp.clip(opacity, 1e-4, 1 - 1e-4)
    return -o * jnp.log(o) - (1 - o) * jnp.log1p(-o)
