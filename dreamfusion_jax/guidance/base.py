"""The contract of guidance: images of a scene -> their gradient, and that of what it learns."""

import abc
import dataclasses
from typing import Any, ClassVar

import optax
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax.types import RenderedViews, TextEmbeddings


@dataclasses.dataclass(frozen=True)
class Guidance(abc.ABC):
    """Turn the views of a step into a gradient with respect to their images.

    A class of its own is registered with `@register("guidance", NAME)`; its fields are the keys of
    `config.guidance`, and a value that it refuses raises a ValueError. `init` gives what it learns
    beside the scene, as Variational Score Distillation does: such parameters are updated by
    `optimizer`, averaged over devices, saved in checkpoints and resumed as the scene's are.
    """

    model: ClassVar[str] = "diffusion"  # what guides, or "image_text": a CLIP in its place

    @property
    def asks_unconditional(self) -> bool:
        """Whether the row of the empty prompt has any weight."""
        return True

    @property
    def optimizer(self) -> optax.GradientTransformation | None:
        """Of what `init` gives; None where nothing is learnt."""
        return None

    def init(self, prior: Any, key: Key[Array, ""]) -> Any:
        """Return the parameters that are learnt for one scene, None where there are none.

        Args:
          prior: the frozen model without its parameters.
          key: of the scene.
        """
        return None

    @abc.abstractmethod
    def gradient(
        self,
        params: Any,
        prior: Any,
        prior_params: Any,
        views: RenderedViews,
        embeddings: TextEmbeddings,
        keys: Key[Array, "batch"],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, "batch height width channels"], Any, dict[str, Float[Array, "batch"]]]:
        """Return the gradient with respect to the images, that of `params`, and metrics.

        Args:
          params: what `init` gave, of all scenes: a leading axis of scenes; None where nothing.
          prior: the frozen model without its parameters.
          prior_params: these.
          views: of all scenes on this device, one after the other.
          embeddings: the text of each view, then the row of the unconditional prompt.
          keys: one for each view.
          step: of the run.

        Returns:
          The gradient of each image; a gradient like `params`, the mean over the views of a scene
          (None where nothing is learnt); one number for each view by name, for the log.
        """
