"""The UNets of DeepFloyd IF's first stage, by size."""

from typing import Any

import jax
import jax.numpy as jnp

from dreamfusion_jax.diffusion.text_to_image import TextToImagePrior
from dreamfusion_jax.diffusion.unet import UNet

# First of the four widths w (1, 2, 3, 4): about 0.4, 0.9 and 4.3 billion parameters.
WIDTHS = {"if-i-m": 192, "if-i-l": 320, "if-i-xl": 704}
IMAGE_SHAPE, TOKENS, TEXT_WIDTH = (64, 64, 3), 77, 4096


def if_unet(size: str, dtype: Any = jnp.bfloat16) -> UNet:
    """The architecture; fields that are not given have IF's values."""
    width = WIDTHS[size]
    widths = tuple(width * i for i in (1, 2, 3, 4))
    return UNet(block_out_channels=widths, cross_attention_dim=widths[-1], dtype=dtype)


def unet_shapes(size: str, dtype: Any = jnp.bfloat16) -> Any:
    """Shapes of the parameters."""
    arguments = (
        jnp.zeros((1, *IMAGE_SHAPE)),
        jnp.zeros(1),
        jnp.zeros((1, TOKENS, TEXT_WIDTH)),
        jnp.ones((1, TOKENS), bool),
    )
    params = jax.eval_shape(if_unet(size).init, jax.random.key(0), *arguments)["params"]
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)


def untrained_prior(size: str, params: Any) -> TextToImagePrior:
    """A prior that costs what IF's costs, without its text encoder: for measuring.

    Args:
      size: one of WIDTHS.
      params: the UNet's, or their shapes.
    """
    return TextToImagePrior(
        unet=if_unet(size),
        text_encoder=None,
        tokenizer=None,
        params={"unet": params},
        image_shape=IMAGE_SHAPE,
        tokens=TOKENS,
        prediction="eps",
    )
