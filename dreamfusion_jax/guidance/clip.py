"""Guidance by an image-text model, as in Dream Fields (Jain et al. 2022): image -> gradient."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax.diffusion.cfg import to_image_range
from dreamfusion_jax.guidance.image_text_prior import ImageTextPrior
from dreamfusion_jax.types import TextEmbeddings


@flax.struct.dataclass
class ClipGuidanceAux:
    """1 - cosine of each image and its text, the mean over its crops."""

    residual: Float[Array, "batch"]


@dataclasses.dataclass(frozen=True)
class ClipGuidance:
    """The gradient of -cosine(image, text), the mean over random crops of each image.

    Dream Fields draws another background for each crop; here it belongs to the view.
    """

    crops: int = 8
    crop_share: float = 154 / 168  # of the side of the render

    def gradient(
        self,
        prior: ImageTextPrior,
        params: Any,
        image: Float[Array, "batch height width 3"],
        embeddings: TextEmbeddings,
        key: Key[Array, "batch"],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, "batch height width 3"], ClipGuidanceAux]:
        """The gradient with respect to the images, times their pixels (the step divides by them).

        Args:
          prior: the frozen model.
          params: its parameters.
          image: in [-1, 1].
          embeddings: one row per image; more are not looked at.
          key: one for each image, draws the crops.
          step: not looked at.
        """
        texts = embeddings.states[: len(image), 0]

        def loss(x):
            cut = jax.vmap(lambda picture, k: self._crop(picture, k, prior.model.image_size))
            pictures = cut(to_image_range(x), key)
            vectors = prior.model.embed(params, pictures.reshape(-1, *pictures.shape[2:]))
            vectors = vectors.reshape(len(image), self.crops, -1)
            distance = 1 - jnp.einsum("bcd,bd->bc", vectors, texts).mean(1)
            return distance.sum(), distance

        gradient, distance = jax.grad(loss, has_aux=True)(image)
        return gradient * (image.shape[1] * image.shape[2]), ClipGuidanceAux(residual=distance)

    def _crop(
        self, picture: Float[Array, "height width 3"], key: Key[Array, ""], size: int
    ) -> Float[Array, "crops size size 3"]:
        """Square cut-outs at random places, resized bilinearly."""
        side = picture.shape[0]
        own = max(1, round(self.crop_share * side))
        corners = jax.random.randint(key, (self.crops, 2), 0, side - own + 1)

        def cut(corner):
            found = jax.lax.dynamic_slice(picture, (corner[0], corner[1], 0), (own, own, 3))
            return jax.image.resize(found, (size, size, 3), "linear")

        return jax.vmap(cut)(corners)
