"""View-dependent prompts (paper section 3.2)."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.types import Conditioning

VIEW_WORDS = ("front view", "side view", "back view", "overhead view")
OVERHEAD_ELEVATION = math.radians(60.0)

# Octants counter-clockwise from the front; the sides are the object's own.
_OCTANTS = (
    *("front", "front left", "left side", "back left"),
    *("back", "back right", "right side", "front right"),
)
_HEIGHTS = ("{} view at eye level", "{} view from above", "{} overhead view")
_RAISED_ELEVATION = math.radians(25.0)
FINE_WORDS = tuple(height.format(octant) for height in _HEIGHTS for octant in _OCTANTS)


def view_index(
    azimuth: Float[Array, "*batch"], elevation: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Return which of VIEW_WORDS a camera sees (radians).

    Overhead above 60 degrees of elevation, otherwise front, side or back by the
    quadrant of the azimuth, the front quadrant being centered on azimuth 0.
    """
    quadrant = _sector(azimuth, 4)
    side_as_one = jnp.where(quadrant == 3, 1, quadrant)
    return jnp.where(jnp.asarray(elevation) > OVERHEAD_ELEVATION, 3, side_as_one)


def fine_view_index(
    azimuth: Float[Array, "*batch"], elevation: Float[Array, "*batch"]
) -> Int[Array, "*batch"]:
    """Return which of FINE_WORDS a camera sees: eight octants at three heights (radians)."""
    elevation = jnp.asarray(elevation)
    height = (elevation > _RAISED_ELEVATION).astype(jnp.int32)
    height += (elevation > OVERHEAD_ELEVATION).astype(jnp.int32)
    return height * len(_OCTANTS) + _sector(azimuth, len(_OCTANTS))


@dataclasses.dataclass(frozen=True)
class ViewPrompts:
    """How prompts depend on the view.

    kind: "paper" (its four view words), "fine" (24 words, for a prior whose captions
    have them) or "none" (the plain prompt for every view).
    textureless: what is said of views without texture; "" is nothing, as in the paper.

    Raises:
      UserError: there is no such kind.
    """

    kind: str = "paper"
    textureless: str = ""

    def __post_init__(self):
        if self.kind not in ("paper", "fine", "none"):
            raise UserError(f"prompt.view_words is {self.kind!r}; choose one of paper, fine, none.")

    def of(self, prompt: str) -> list[str]:
        """Return the prompt with every view word, in the order of `index`."""
        prompts = [prompt]
        if self.kind != "none":
            prompts = [f"{prompt.rstrip(' .,')}, {word}" for word in self._words()]
        if not self.textureless:
            return prompts
        return [*prompts, *(f"{p.rstrip(' .,')}, {self.textureless}" for p in prompts)]

    def index(
        self,
        azimuth: Float[Array, "*batch"],
        elevation: Float[Array, "*batch"],
        textureless: Float[Array, "*batch"] | None = None,
    ) -> Int[Array, "*batch"]:
        """Return which prompt a camera at these angles (radians) gets.

        Args:
          azimuth: of the camera.
          elevation: of the camera.
          textureless: 1 for a view without texture, 0 for others; None: all have one.
        """
        index, count = jnp.zeros(jnp.shape(azimuth), jnp.int32), 1
        if self.kind != "none":
            count = len(self._words())
            index = (fine_view_index if self.kind == "fine" else view_index)(azimuth, elevation)
        if not self.textureless or textureless is None:
            return index
        return index + count * (textureless > 0.5)

    def _words(self) -> tuple[str, ...]:
        return FINE_WORDS if self.kind == "fine" else VIEW_WORDS


def select_rows(
    embeddings: Mapping[str, Conditioning], index: Int[Array, "scenes views"]
) -> dict[str, Conditioning]:
    """Return one row of each name for each view, of all scenes one after the other.

    Args:
      embeddings: rows by name with two leading axes: scenes, and prompts of a scene: one for each
        view word, or a single one for all views.
      index: the prompt of each view, among those of its scene.
    """
    scene = jnp.repeat(jnp.arange(len(index)), index.shape[1])

    def rows(leaf):
        return leaf[scene, 0] if leaf.shape[1] == 1 else leaf[scene, index.ravel()]

    return jax.tree.map(rows, dict(embeddings))


def _sector(azimuth: Float[Array, "*batch"], count: int) -> Int[Array, "*batch"]:
    return jnp.round(jnp.asarray(azimuth) * (count / (2 * math.pi))).astype(jnp.int32) % count
