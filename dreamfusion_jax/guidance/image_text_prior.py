"""An image-text model in the place of a diffusion prior, for guidance by similarity."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dreamfusion_jax.diffusion.load import check_dtype
from dreamfusion_jax.diffusion.prior import FrozenModel
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import read_config
from dreamfusion_jax.models.dual_encoder import DualEncoder
from dreamfusion_jax.models.image_text import ImageTextModel
from dreamfusion_jax.pretrained.clip_folder import load_clip
from dreamfusion_jax.types import Conditioning


@dataclasses.dataclass(frozen=True)
class ImageTextPrior(FrozenModel):
    """What the training loop asks of a prior, with vectors for embeddings: states [rows, 1, D].

    Images are rendered at any size, `image_shape`, and resized by the guidance.
    """

    model: ImageTextModel
    image_shape: tuple[int, int, int]

    def architecture(self) -> "ImageTextPrior":
        """Return it without the model's parameters and words."""
        return dataclasses.replace(self, model=self.model.architecture())

    def at(self, image_size: int, prompts: Sequence[str] = ()) -> "ImageTextPrior":
        """Return it for views of a size."""
        return dataclasses.replace(self, image_shape=(image_size, image_size, 3))

    @property
    def params(self) -> Any:
        """The model's parameters."""
        return self.model.params

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Return the unit vector of each prompt."""
        states = jnp.asarray(self.model.texts(list(prompts)))[:, None]
        return Conditioning(states=states, mask=jnp.ones(states.shape[:2], bool))


def is_dual_encoder(folder: str | Path) -> bool:
    """Return whether a folder is of the small kind that `dreamfusion train-evaluator` writes."""
    try:
        config = read_config(Path(folder) / "config.json")
    except (OSError, ValueError, UserError):
        return False
    return "image_channels" in config


def load_image_text(folder: str | Path, dtype: str = "float32") -> ImageTextModel:
    """Read a CLIP model, or what `dreamfusion train-evaluator` wrote, to guide with.

    Args:
      folder: of the model.
      dtype: "float32" or "bfloat16", of CLIP's parameters and computation.

    Raises:
      UserError: there is no such model, or it cannot be read.
    """
    own = is_dual_encoder(folder)
    if not own and not os.path.isdir(folder):
        raise UserError(
            f"Guidance by similarity needs an image-text model, and there is no folder {folder}: "
            "give that of a CLIP model with --config.prior.name=FOLDER."
        )
    check_dtype(dtype)
    if own:
        return DualEncoder.load(folder)
    return load_clip(folder, jnp.dtype(dtype))
