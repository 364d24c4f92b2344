"""What image-text models have in common."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@runtime_checkable
class ImageTextModel(Protocol):
    """Maps pictures and texts to unit vectors, whose products say how well they fit."""

    @property
    def params(self) -> Any:
        """The network's parameters."""

    @property
    def image_size(self) -> int:
        """Pixels a side that the network sees."""

    def embed(
        self, params: Any, images: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch width"]:
        """Return unit vectors of images in [0, 1] of the network's size; differentiable."""

    def images(self, images: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n width"]:
        """Return unit vectors of pictures in [0, 1] of any size."""

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """Return unit vectors of texts."""

    def architecture(self) -> "ImageTextModel":
        """Return it without parameters and words; equal where the same program fits."""


def unit(x: Float[Array, "b width"]) -> Float[Array, "b width"]:
    """Return rows of length 1."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)
