"""The contract of guidance: images of a scene -> their gradient, and that of what it learns."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import optax
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax.prompts.view_prompts import ViewPrompts
from dreamfusion_jax.types import Conditioning, RenderedViews


@dataclasses.dataclass(frozen=True)
class Guidance(abc.ABC):
    """Turn the views of a step into a gradient with respect to their images.

    A class of its own is registered with `@register("guidance", NAME)`; its fields are the keys of
    `config.guidance`, and a value that it refuses raises a ValueError. `init` gives what it learns
    beside the scene, as Variational Score Distillation does: such parameters are updated by
    `optimizer`, averaged over devices, saved in checkpoints and resumed as the scene's are.
    """

    model: ClassVar[str] = "diffusion"  # what guides, or "image_text": a CLIP in its place

    def prompts(self, view_prompts: ViewPrompts, prompt: str) -> dict[str, list[str]]:
        """Return the prompts that `gradient` asks for, by a name for each kind of row.

        A kind has one prompt for each view (`view_prompts.of(prompt)`), of which every view gets
        its own, or a single one for all views. By default "positive" and "empty".

        Args:
          view_prompts: what the view adds to a prompt.
          prompt: of the scene.
        """
        return {"positive": view_prompts.of(prompt), "empty": [""]}

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
        embeddings: Mapping[str, Conditioning],
        keys: Key[Array, "batch"],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, "batch height width channels"], Any, dict[str, Float[Array, "batch"]]]:
        """Return the gradient with respect to the images, that of `params`, and metrics.

        Args:
          params: what `init` gave, of all scenes: a leading axis of scenes; None where nothing.
          prior: the frozen model without its parameters.
          prior_params: these.
          views: of all scenes on this device, one after the other.
          embeddings: of what `prompts` asked for, by the same names, one row for each view.
          keys: one for each view.
          step: of the run.

        Returns:
          The gradient of each image; a gradient like `params`, the mean over the views of a scene
          (None where nothing is learnt); one number for each view by name, for the log.
        """
