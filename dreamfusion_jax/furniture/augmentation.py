"""Batches of captioned pictures over random backgrounds, drawn inside the compiled step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from dreamfusion_jax.furniture.prior_data import CaptionedImages
from dreamfusion_jax.prompts.word_tokenizer import tokenize


class DeviceData(NamedTuple):
    """`CaptionedImages` as arrays: colors premultiplied by alpha, captions tokenized."""

    images: UInt8[Array, "n height width 4"]
    tokens: Int[Array, "n captions length"]
    attention_mask: Bool[Array, "n captions length"]
    empty_tokens: Int[Array, "length"]  # of the prompt ""
    empty_attention_mask: Bool[Array, "length"]


class Augmentation(NamedTuple):
    """How batches are drawn; a hashable part of the compiled step."""

    batch: int
    image_size: int
    scale: float  # the object is scaled by a factor in zoom [1 - scale, 1 + scale]
    shift: float  # and moved by up to this share of the image's side
    drop_caption: float  # share of empty captions
    zoom: float = 1.0


def to_device(data: CaptionedImages, tokenizer: tokenizers.Tokenizer, length: int) -> DeviceData:
    """Tokenize the captions (the same number for every picture) and premultiply colors."""
    count = len(data.captions[0])
    ids, attention_mask = tokenize(tokenizer, data.all_captions(), length)
    empty, empty_attention_mask = tokenize(tokenizer, [""], length)
    alpha = data.rgba[..., 3:].astype(np.float32) / 255
    premultiplied = (data.rgba[..., :3] * alpha + 0.5).astype(np.uint8)
    return DeviceData(
        images=jnp.asarray(np.concatenate([premultiplied, data.rgba[..., 3:]], axis=-1)),
        tokens=jnp.asarray(ids.reshape(-1, count, length)),
        attention_mask=jnp.asarray(attention_mask.reshape(-1, count, length)),
        empty_tokens=jnp.asarray(empty[0]),
        empty_attention_mask=jnp.asarray(empty_attention_mask[0]),
    )


def draw_batch(
    key: Key[Array, ""], data: DeviceData, how: Augmentation
) -> tuple[
    Float[Array, "batch size size 3"], Int[Array, "batch length"], Bool[Array, "batch length"]
]:
    """Return images in [-1, 1] over random backgrounds, their token ids and the tokens' mask."""
    keys = jax.random.split(key, 5)
    index = jax.random.randint(keys[0], (how.batch,), 0, data.images.shape[0])
    caption = jax.random.randint(keys[1], (how.batch,), 0, data.tokens.shape[1])
    dropped = jax.random.bernoulli(keys[2], how.drop_caption, (how.batch, 1))
    tokens = jnp.where(dropped, data.empty_tokens, data.tokens[index, caption])
    attention_mask = jnp.where(
        dropped, data.empty_attention_mask, data.attention_mask[index, caption]
    )
    rgba = random_placement(keys[3], data.images[index].astype(jnp.float32) / 255, how)
    images = rgba[..., :3] + (1 - rgba[..., 3:]) * backgrounds(keys[4], how.batch, how.image_size)
    return 2 * images - 1, tokens, attention_mask


def random_placement(
    key: Key[Array, ""], images: Float[Array, "batch h w 4"], how: Augmentation
) -> Float[Array, "batch size size 4"]:
    """Resize premultiplied pictures with a random scale and shift, antialiased.

    Never mirrored: "side view" and lettering would suffer.
    """
    scale_key, shift_key = jax.random.split(key)
    batch, side, _, channels = images.shape
    factor = jax.random.uniform(scale_key, (batch,), minval=1 - how.scale, maxval=1 + how.scale)
    factor = factor * how.zoom * how.image_size / side
    shift = jax.random.uniform(shift_key, (batch, 2), minval=-how.shift, maxval=how.shift)
    offset = how.image_size * (0.5 + shift) - 0.5 * side * factor[:, None]

    def one(image, factor, offset):
        shape = (how.image_size, how.image_size, channels)
        scale = jnp.full(2, factor)
        return jax.image.scale_and_translate(image, shape, (0, 1), scale, offset, "linear")

    return jax.vmap(one)(images, factor, offset)


def backgrounds(key: Key[Array, ""], batch: int, size: int) -> Float[Array, "batch size size 3"]:
    """Return random backgrounds in [0, 1]: linear gradients, half of them flat."""
    color_key, flat_key, angle_key = jax.random.split(key, 3)
    first, second = jax.random.uniform(color_key, (2, batch, 1, 1, 3))
    flat = jax.random.bernoulli(flat_key, 0.5, (batch, 1, 1, 1))
    second = jnp.where(flat, first, second)
    angle = jax.random.uniform(angle_key, (batch, 1, 1), maxval=2 * jnp.pi)
    x = (jnp.arange(size) + 0.5) / size - 0.5
    ramp = 0.5 + (jnp.cos(angle) * x[None, None, :] + jnp.sin(angle) * x[None, :, None]) / 2**0.5
    return first + (second - first) * ramp[..., None]
