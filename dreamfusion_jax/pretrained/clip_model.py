"""A published CLIP model, ready to compare images and texts: network, weights and words."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from dreamfusion_jax.models.clip import CLIPNetwork
from dreamfusion_jax.models.preprocessing import Preprocessing
from dreamfusion_jax.pretrained.tokenizers import HFTokenizer

_BATCH = 32  # images or texts that are encoded at a time


@dataclasses.dataclass(frozen=True)
class Clip:
    """A published model, an `ImageTextModel`."""

    network: CLIPNetwork
    params: Any = dataclasses.field(compare=False, repr=False)
    tokenizer: HFTokenizer | None = dataclasses.field(compare=False)
    preprocessing: Preprocessing

    def architecture(self) -> "Clip":
        """Return it without its parameters and its tokenizer."""
        return dataclasses.replace(self, params=None, tokenizer=None)

    @property
    def image_size(self) -> int:
        """Pixels a side that the network sees."""
        return self.preprocessing.size

    def embed(
        self, params: Any, images: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch width"]:
        """Return unit vectors of images in [0, 1] of the network's size; differentiable."""
        pixels = self.preprocessing.normalize(images).astype(self.network.vision_model.dtype)
        vectors: Any = self.network.apply({"params": params}, pixels, method="encode_images")
        return vectors

    def images(self, images: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n width"]:
        """Return unit vectors of pictures in [0, 1] of any size, resized as published."""
        images = np.asarray(images, np.float32)
        parts = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
        return np.concatenate([np.asarray(self._encode_images(self.params, p)) for p in parts])

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Return unit vectors of texts; what is too long for the encoder is cut, with a warning."""
        assert self.tokenizer is not None  # an architecture alone reads nothing
        ids, present = self.tokenizer(texts, self.network.text_model.max_position_embeddings)
        ends = present.sum(1) - 1
        parts = [slice(i, i + _BATCH) for i in range(0, len(texts), _BATCH)]
        vectors = [self._encode_texts(self.params, ids[p], ends[p]) for p in parts]
        return np.concatenate([np.asarray(v) for v in vectors])

    @functools.cached_property
    def _encode_images(self):
        return jax.jit(lambda params, x: self.embed(params, self.preprocessing.resize(x)))

    @functools.cached_property
    def _encode_texts(self):
        def encode(params, tokens, ends):
            return self.network.apply({"params": params}, tokens, ends, method="encode_texts")

        return jax.jit(encode)
