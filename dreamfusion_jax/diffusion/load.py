"""Finding a prior by name or folder."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dreamfusion_jax.datasets.library import load_library
from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.diffusion.text_to_image import TextToImagePrior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.views import FINE_WORDS, VIEW_WORDS, fine_view_index, view_index

# "embedded" is the shipped prior with the better scores: see the README.
DEFAULT = "furniture-views"
SHIPPED = Path(__file__).parent.parent / "priors"


def load_prior(name_or_path: str, *, image_size: int | None = None) -> Prior:
    """Loads a frozen text-to-image prior.

    Args:
      name_or_path: "embedded" (the default prior), "furniture-views" (the exact denoiser
        of the shipped pictures), "furniture-unet" (the shipped network), or the folder of
        a model that `dreamfusion train-prior` wrote.
      image_size: side in pixels that "furniture-views" works at (64 by default); networks
        have a size of their own.

    Raises:
      UserError: there is no such prior, or its folder cannot be read.
    """
    name = DEFAULT if name_or_path == "embedded" else name_or_path
    if name == "furniture-views":
        return furniture_views(image_size or 64)
    if name == "furniture-unet":
        return TextToImagePrior.load(SHIPPED / "furniture_unet")
    return TextToImagePrior.load(_model_folder(Path(name)))


def furniture_views(image_size: int) -> EmpiricalPrior:
    """The closed-form denoiser of the shipped object views at a size that divides 64."""
    library = load_library()
    full = library.rgba.shape[2]
    if image_size < 1 or full % image_size:
        raise UserError(
            f"The prior furniture-views has pictures of {full} pixels; "
            f"train.image_size {image_size} does not divide that."
        )
    angles = jnp.asarray(library.azimuth), jnp.asarray(library.elevation)
    coarse, fine = np.asarray(view_index(*angles)), np.asarray(fine_view_index(*angles))
    captions = [
        Caption(
            noun=noun,
            synonyms=tuple(library.synonyms.get(noun, ())),
            views=(VIEW_WORDS[coarse[i, j]], FINE_WORDS[fine[i, j]]),
        )
        for i, noun in enumerate(library.nouns)
        for j in range(coarse.shape[1])
    ]
    # One object at a time: the whole library in float32 would be half a gigabyte.
    pictures = [
        box_downsample(views.astype(np.float32) / 255, image_size) for views in library.rgba
    ]
    return EmpiricalPrior.from_pictures(np.concatenate(pictures), captions)


def box_downsample(
    rgba: Float[np.ndarray, "n full full 4"], size: int
) -> Float[np.ndarray, "n size size 4"]:
    """Averages straight-alpha pictures over pixel blocks, weighting colour by alpha."""
    n, full, _, _ = rgba.shape
    factor = full // size
    alpha = rgba[..., 3:]
    premultiplied = np.concatenate([rgba[..., :3] * alpha, alpha], axis=-1)
    blocks = premultiplied.reshape(n, size, factor, size, factor, 4).mean(axis=(2, 4))
    colour = blocks[..., :3] / np.maximum(blocks[..., 3:], 1e-6)
    return np.concatenate([np.clip(colour, 0, 1), blocks[..., 3:]], axis=-1)


def _model_folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(
            f"There is no prior {str(path)!r}: give embedded, furniture-views, furniture-unet "
            "or the folder of a model."
        )
    try:
        json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a model folder that can be read: its config.json is missing or damaged."
        ) from error
    return path
