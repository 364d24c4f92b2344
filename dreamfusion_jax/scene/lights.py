"""Point lights and the random choice of shading (paper section 3.1 "Shading", appendix A.2)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dreamfusion_jax.distributions import Bernoulli, Normal, Uniform
from dreamfusion_jax.types import Camera, Light


@dataclasses.dataclass(frozen=True)
class LightDistribution:
    """How a view is lit.

    The first `albedo_steps` steps show plain albedo. Afterwards a view is lit with
    probability `lit_probability` (ambient, diffuse), and a lit view is textureless
    with probability `textureless_probability`. The light stands in a direction ~ N(camera position
    + `beside`, direction_std^2 I), `beside` in the camera's own right and up.
    """

    albedo_steps: int = 1000
    lit_probability: float = 0.75
    textureless_probability: float = 0.5
    ambient: float = 0.1
    diffuse: float = 0.9
    distance_range: tuple[float, float] = (0.8, 1.5)
    direction_std: float = 1.0
    beside: tuple[float, float] = (0.0, 0.0)


def albedo_light(batch: tuple[int, ...] = ()) -> Light:
    """Return the light that shows plain albedo: ambient 1, diffuse 0."""
    zeros = jnp.zeros(batch)
    return Light(
        position=jnp.zeros((*batch, 3)), diffuse=zeros, ambient=zeros + 1, textureless=zeros
    )


def point_light(
    position: Float[Array, "*batch 3"],
    *,
    ambient: float = 0.1,
    diffuse: float = 0.9,
    textureless: bool = False,
) -> Light:
    """Return a light at `position` with the paper's strengths."""
    ones = jnp.ones(position.shape[:-1])
    return Light(
        position=position,
        diffuse=diffuse * ones,
        ambient=ambient * ones,
        textureless=float(textureless) * ones,
    )


def sample_light(
    key: PRNGKeyArray, camera: Camera, step: Int[Array, ""], distribution: LightDistribution
) -> Light:
    """Draw the light of one view, see `LightDistribution`; the paper's: N(camera position, I)."""
    d = distribution
    direction_key, distance_key, lit_key, textureless_key = jax.random.split(key, 4)
    mean = camera.position + camera.rotation[:, :2] @ jnp.array(d.beside)
    direction = mean + d.direction_std * Normal(0.0, 1.0).sample(
        seed=direction_key, sample_shape=(3,)
    )
    direction = direction * jax.lax.rsqrt(jnp.sum(direction**2) + 1e-20)
    low, high = d.distance_range
    distance = low + (high - low) * Uniform(0.0, 1.0).sample(seed=distance_key)
    lit = Bernoulli(probs=d.lit_probability).sample(seed=lit_key)
    lit = jnp.where(step >= d.albedo_steps, lit, 0).astype(jnp.float32)
    textureless = Bernoulli(probs=d.textureless_probability).sample(seed=textureless_key)
    return Light(
        position=distance * direction,
        diffuse=lit * d.diffuse,
        ambient=lit * d.ambient + (1 - lit),
        textureless=lit * textureless,
    )
