"""View-dependent prompts (paper section 3.2)."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dreamfusion_jax.types import TextEmbeddings

VIEW_WORDS = ("front view", "side view", "back view", "overhead view")
OVERHEAD_ELEVATION = math.radians(60.0)


def view_prompts(prompt: str, *, view_dependent: bool = True) -> list[str]:
    """One prompt per view word, and "" (the unconditional prompt) at the end."""
    words = [f"{prompt}, {word}" if view_dependent else prompt for word in VIEW_WORDS]
    return [*words, ""]


def view_index(
    azimuth: Float[Array, "*batch"], elevation: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Which of VIEW_WORDS a camera sees.

    Overhead above 60 degrees of elevation, otherwise front, side or back by the
    quadrant of the azimuth, the front quadrant being centred on azimuth 0.
    """
    quadrant = jnp.round(jnp.asarray(azimuth) / (math.pi / 2)).astype(jnp.int32) % 4
    side_as_one = jnp.where(quadrant == 3, 1, quadrant)
    return jnp.where(jnp.asarray(elevation) > OVERHEAD_ELEVATION, 3, side_as_one)


def select_rows(embeddings: TextEmbeddings, index: Int[Array, "batch"]) -> TextEmbeddings:
    """The rows of the views' prompts, followed by the unconditional one: batch + 1 rows."""
    rows = jnp.concatenate([index, jnp.array([embeddings.mask.shape[0] - 1])])
    return TextEmbeddings(states=embeddings.states[rows], mask=embeddings.mask[rows])
