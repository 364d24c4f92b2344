"""View-dependent prompts (paper section 3.2)."""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.types import TextEmbeddings

VIEW_WORDS = ("front view", "side view", "back view", "overhead view")
OVERHEAD_ELEVATION = math.radians(60.0)

# Octants counter-clockwise from the front; the sides are the object's own.
_OCTANTS = ("front", "front left", "left side", "back left")
_OCTANTS += ("back", "back right", "right side", "front right")
_HEIGHTS = ("{} view at eye level", "{} view from above", "{} overhead view")
_RAISED_ELEVATION = math.radians(25.0)
FINE_WORDS = tuple(height.format(octant) for height in _HEIGHTS for octant in _OCTANTS)


def view_index(
    azimuth: Float[Array, "*batch"], elevation: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Which of VIEW_WORDS a camera sees (radians).

    Overhead above 60 degrees of elevation, otherwise front, side or back by the
    quadrant of the azimuth, the front quadrant being centered on azimuth 0.
    """
    quadrant = _sector(azimuth, 4)
    side_as_one = jnp.where(quadrant == 3, 1, quadrant)
    return jnp.where(jnp.asarray(elevation) > OVERHEAD_ELEVATION, 3, side_as_one)


def fine_view_index(
    azimuth: Float[Array, "*batch"], elevation: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Which of FINE_WORDS a camera sees: eight octants at three heights (radians)."""
    elevation = jnp.asarray(elevation)
    height = (elevation > _RAISED_ELEVATION).astype(jnp.int32)
    height += (elevation > OVERHEAD_ELEVATION).astype(jnp.int32)
    return height * len(_OCTANTS) + _sector(azimuth, len(_OCTANTS))


@dataclasses.dataclass(frozen=True)
class ViewPrompts:
    """How prompts depend on the view.

    kind: "paper" (its four view words), "fine" (24 words, for a prior whose captions
    have them) or "none" (the plain prompt for every view).

    Raises:
      UserError: there is no such kind.
    """

    kind: str = "paper"

    def __post_init__(self):
        if self.kind not in ("paper", "fine", "none"):
            raise UserError(f"view_words is {self.kind!r}; choose one of paper, fine, none.")

    def prompts(self, *prompts: str) -> list[str]:
        """Each prompt with every view word, and "" (the unconditional prompt) at the end."""
        if self.kind == "none":
            return [*prompts, ""]
        words = FINE_WORDS if self.kind == "fine" else VIEW_WORDS
        bare = [prompt.rstrip(" .,") for prompt in prompts]
        return [*(f"{prompt}, {word}" for prompt in bare for word in words), ""]

    def index(
        self, azimuth: Float[Array, "*batch"], elevation: Float[Array, "*batch"]
    ) -> Int[Array, "*batch"]:
        """Which prompt a camera at these angles (radians) gets."""
        if self.kind == "none":
            return jnp.zeros(jnp.shape(azimuth), jnp.int32)
        return (fine_view_index if self.kind == "fine" else view_index)(azimuth, elevation)


def select_rows(embeddings: TextEmbeddings, index: Int[Array, "scenes views"]) -> TextEmbeddings:
    """The rows of the views' prompts, followed by the unconditional one.

    Args:
      embeddings: the same number of rows for each scene, then the unconditional row.
      index: the prompt of each view, among those of its scene.

    Returns:
      scenes * views + 1 rows.
    """
    last = embeddings.mask.shape[0] - 1
    first = jnp.arange(len(index)) * (last // len(index))
    rows = jnp.append((first[:, None] + index).ravel(), last)
    return TextEmbeddings(states=embeddings.states[rows], mask=embeddings.mask[rows])


def _sector(azimuth: Float[Array, "*batch"], count: int) -> Int[Array, "*batch"]:
    return jnp.round(jnp.asarray(azimuth) * (count / (2 * math.pi))).astype(jnp.int32) % count
