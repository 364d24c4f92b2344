"""A small image-text dual encoder: the retrieval evaluator's, where papers have CLIP.

A convolutional network and a T5-style encoder map pictures and texts to unit vectors, whose
products, times exp(`logit_scale`), are logits (Radford et al. 2021, section 2). A model
folder holds config.json, model.safetensors, tokenizer.json and a model card, README.md.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import (
    TABLE,
    check_divides,
    check_fields,
    each,
    read_config,
    whole,
)
from dreamfusion_jax.model_weights import load_params, save_params
from dreamfusion_jax.models import t5
from dreamfusion_jax.models.image_text import unit
from dreamfusion_jax.models.t5 import T5Encoder, t5_from_config
from dreamfusion_jax.models.unet_blocks import conv3x3
from dreamfusion_jax.prompts.word_tokenizer import load_tokenizer, tokenize

_GROUPS = 8  # of the norms
_BATCH = 64  # pictures that are encoded at a time


class ResidualBlock(nn.Module):
    """Two convolutions with group norms before them."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """[B, H, W, C] -> the same."""
        channels = x.shape[-1]
        h = conv3x3(channels, "conv_1")(nn.silu(nn.GroupNorm(_GROUPS, name="norm_1")(x)))
        h = conv3x3(channels, "conv_2")(nn.silu(nn.GroupNorm(_GROUPS, name="norm_2")(h)))
        return x + h


class ImageTower(nn.Module):
    """A residual network; every stage halves the side, the first before its blocks too."""

    width: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Float[Array, "b size size 3"]) -> Float[Array, "b width"]:
        """Return images in [-1, 1] -> unit vectors."""
        x = conv3x3(self.channels[0] // 2, "stem", strides=(2, 2))(images)
        for i, (channels, blocks) in enumerate(zip(self.channels, self.blocks, strict=True)):
            x = conv3x3(channels, f"down_{i}", strides=(2, 2))(nn.silu(x))
            for j in range(blocks):
                x = ResidualBlock(name=f"block_{i}_{j}")(x)
        x = nn.silu(nn.GroupNorm(_GROUPS, name="norm")(x)).reshape(len(x), -1)
        return unit(nn.Dense(self.width, use_bias=False, name="project")(x))


class TextTower(nn.Module):
    """A T5-style encoder, averaged over the tokens."""

    width: int
    encoder: T5Encoder

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b tokens"], present: Bool[Array, "b tokens"]
    ) -> Float[Array, "b width"]:
        """Return token ids and their mask -> unit vectors."""
        states = self.encoder(tokens, present)
        mean = jnp.sum(states * present[..., None], axis=1)
        mean = mean / jnp.maximum(jnp.sum(present, axis=1, keepdims=True), 1)
        return unit(nn.Dense(self.width, use_bias=False, name="project")(mean))


class DualEncoderNetwork(nn.Module):
    """Both towers and the temperature."""

    image: ImageTower
    text: TextTower

    def setup(self):
        """Return the temperature's logarithm."""
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(np.log(20.0)), ())

    def __call__(
        self,
        images: Float[Array, "b size size 3"],
        tokens: Int[Array, "n length"],
        present: Bool[Array, "n length"],
    ) -> tuple[Float[Array, "b width"], Float[Array, "n width"], Float[Array, ""]]:
        """Return unit vectors of both, and the factor of their products."""
        return self.image(images), self.text(tokens, present), self.scale()

    def encode_images(self, images: Float[Array, "b size size 3"]) -> Float[Array, "b width"]:
        """Return images in [-1, 1] -> unit vectors."""
        return self.image(images)

    def encode_texts(
        self, tokens: Int[Array, "b tokens"], present: Bool[Array, "b tokens"]
    ) -> Float[Array, "b width"]:
        """Return token ids -> unit vectors."""
        return self.text(tokens, present)

    def scale(self) -> Float[Array, ""]:
        """exp(logit_scale), at most 100."""
        return jnp.exp(jnp.minimum(self.logit_scale, np.log(100.0)))


_KINDS = {
    "image_size": whole(1, 1024),
    "tokens": whole(2, 1024),
    "width": whole(),
    "image_channels": each(whole(), most=8),
    "image_blocks": each(whole(0, 16), most=8),
    "text": TABLE,
}


def check_config(config: dict[str, Any], where: str) -> None:
    """Check a model folder's config.json.

    Raises:
      UserError: it is not of a dual encoder, or its values make no sense.
    """
    check_fields(config, _KINDS, where)
    if missing := sorted(_KINDS.keys() - set(config)):
        raise UserError(f"{where} is not of a dual encoder: it lacks {missing[0]!r}.")
    check_fields(config["text"], t5.KINDS, where)
    if len(config["image_channels"]) != len(config["image_blocks"]):
        raise UserError(f"{where} has image_channels and image_blocks of different numbers.")
    for channels in config["image_channels"]:
        check_divides(f"{where} has groups", _GROUPS, "one of its image_channels", channels)


def network_from_config(config: dict[str, Any], vocab_size: int) -> DualEncoderNetwork:
    """Return the networks of a model folder's config.json."""
    return DualEncoderNetwork(
        ImageTower(config["width"], tuple(config["image_channels"]), tuple(config["image_blocks"])),
        TextTower(config["width"], t5_from_config(config["text"] | {"vocab_size": vocab_size})),
    )


@dataclasses.dataclass(frozen=True)
class DualEncoder:
    """A trained model of this package, an `ImageTextModel`."""

    network: DualEncoderNetwork
    params: Any = dataclasses.field(compare=False, repr=False)
    tokenizer: tokenizers.Tokenizer | None = dataclasses.field(compare=False)
    image_size: int
    tokens: int

    def architecture(self) -> "DualEncoder":
        """Return it without its parameters and its tokenizer."""
        return dataclasses.replace(self, params=None, tokenizer=None)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "DualEncoder":
        """Read a model folder.

        Raises:
          UserError: it is missing, damaged or of another kind.
        """
        folder = pathlib.Path(folder)
        try:
            config = read_config(folder / "config.json")
        except OSError as error:
            raise UserError(f"{folder} is no folder of a dual encoder: {error}.") from error
        check_config(config, f"{folder}/config.json")
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        network = network_from_config(config, tokenizer.get_vocab_size())
        shapes = jax.eval_shape(lambda key: init_params(network, config, key), jax.random.key(0))
        params = load_params(folder / "model.safetensors", shapes)
        return cls(network, params, tokenizer, config["image_size"], config["tokens"])

    def embed(
        self, params: Any, images: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch width"]:
        """Return unit vectors of images in [0, 1] of the network's size; differentiable."""
        vectors: Any = self.network.apply(
            {"params": params}, 2 * images - 1, method="encode_images"
        )
        return vectors

    def images(self, images: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n width"]:
        """Return unit vectors of pictures in [0, 1] of any size."""
        images = np.asarray(images, np.float32)
        batches = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
        return np.concatenate([np.asarray(self._encode_images(self.params, b)) for b in batches])

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Return unit vectors of texts."""
        assert self.tokenizer is not None  # an architecture alone reads nothing
        ids, present = tokenize(self.tokenizer, texts, self.tokens)
        tokens = jnp.asarray(ids), jnp.asarray(present)
        variables = {"params": self.params}
        return np.asarray(self.network.apply(variables, *tokens, method="encode_texts"))

    @functools.cached_property
    def _encode_images(self):
        @jax.jit
        def encode(params, images):
            size = (len(images), self.image_size, self.image_size, 3)
            return self.embed(params, jax.image.resize(images, size, "linear"))

        return encode


def init_params(
    network: DualEncoderNetwork, config: dict[str, Any], key: jax.Array
) -> dict[str, Any]:
    """Return fresh parameters."""
    images = jnp.zeros((1, config["image_size"], config["image_size"], 3))
    ids, present = (jnp.zeros((1, config["tokens"]), kind) for kind in (jnp.int32, bool))
    return network.init(key, images, ids, present)["params"]


def save_dual_encoder(
    folder: str | os.PathLike, config: dict[str, Any], tokenizer: tokenizers.Tokenizer, params: Any
) -> None:
    """Write a model folder that `DualEncoder.load` reads (the model card apart), in bfloat16."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_params(folder / "model.safetensors", params, jnp.bfloat16)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
