"""The UNets of DeepFloyd IF's first stage, by size."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from dreamfusion_jax.diffusion.text_to_image import TextToImagePrior
from dreamfusion_jax.models.unet import UNet, unet_from_config
from dreamfusion_jax.types import Conditioning

# First of the four widths w (1, 2, 3, 4): about 0.4, 0.9 and 4.3 billion parameters.
WIDTHS = {"if-i-m": 192, "if-i-l": 320, "if-i-xl": 704}
IMAGE_SHAPE, TOKENS, TEXT_WIDTH = (64, 64, 3), 77, 4096


def if_config(width: int) -> dict[str, Any]:
    """Return the config.json of the UNet whose first width this is, as far as it says anything."""
    return {
        "in_channels": 3,
        "out_channels": 6,
        "block_out_channels": [width * i for i in (1, 2, 3, 4)],
        "layers_per_block": 3,
        "down_block_types": ["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
        "attention_head_dim": 64,
        "cross_attention_dim": 4 * width,
        "cross_attention_norm": "group_norm",
        "encoder_hid_dim": TEXT_WIDTH,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 64,
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }


def if_unet(size: str, dtype: Any = jnp.bfloat16) -> UNet:
    """Return the architecture."""
    return unet_from_config(if_config(WIDTHS[size]), dtype)


def unet_shapes(size: str, dtype: Any = jnp.bfloat16) -> Any:
    """Return the shapes of the parameters."""
    arguments = (
        jnp.zeros((1, *IMAGE_SHAPE)),
        jnp.zeros(1),
        jnp.zeros((1, TOKENS, TEXT_WIDTH)),
        jnp.ones((1, TOKENS), bool),
    )
    params = jax.eval_shape(if_unet(size).init, jax.random.key(0), *arguments)["params"]
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)


def random_unet(size: str, key: Key[Array, ""], dtype: Any = jnp.bfloat16) -> Any:
    """Return parameters that are small noise: the cost of the real ones, leaf by leaf in memory."""
    leaves, tree = jax.tree.flatten(unet_shapes(size, dtype))
    draw = jax.jit(lambda k, shape: 0.02 * jax.random.normal(k, shape, dtype), static_argnums=1)
    keys = [jax.random.fold_in(key, i) for i in range(len(leaves))]
    drawn = [draw(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)


def random_texts(rows: int) -> Conditioning:
    """Return embeddings of T5-XXL's shape, all of their tokens present."""
    states = jax.random.normal(jax.random.key(0), (rows, TOKENS, TEXT_WIDTH), jnp.bfloat16)
    return Conditioning(states=states, mask=jnp.ones((rows, TOKENS), bool))


def untrained_prior(size: str, params: Any) -> TextToImagePrior:
    """Return a prior that costs what IF's costs, without its text encoder: for measuring.

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
