"""The network that ships as a prior."""

import jax.numpy as jnp

from dreamfusion_jax.diffusion.text_to_image import TextToImagePrior
from dreamfusion_jax.furniture.shipped import asset_folder


def furniture_unet(dtype: str = "float32") -> TextToImagePrior:
    """Return the shipped text-to-image network of 32 pixels, in "float32" or "bfloat16"."""
    return TextToImagePrior.load(asset_folder("unet"), jnp.dtype(dtype))
