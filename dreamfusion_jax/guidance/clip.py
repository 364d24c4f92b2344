"""Guidance by an image-text model, as in Dream Fields (Jain et al. 2022): image -> gradient."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax.diffusion.cfg import to_image_range
from dreamfusion_jax.guidance.base import Guidance
from dreamfusion_jax.guidance.image_text_prior import ImageTextPrior
from dreamfusion_jax.prompts.view_prompts import ViewPrompts
from dreamfusion_jax.registry import register
from dreamfusion_jax.types import Conditioning, RenderedViews


@register("guidance", "clip")
@dataclasses.dataclass(frozen=True)
class ClipGuidance(Guidance):
    """The gradient of -cosine(image, text), the mean over random crops of each image.

    Dream Fields draws another background for each crop; here it belongs to the view.
    """

    model: ClassVar[str] = "image_text"
    num_crops: int = 8
    crop_fraction: float = 154 / 168  # of the side of the render

    def __post_init__(self):
        if self.num_crops < 1 or not 0 < self.crop_fraction <= 1:
            raise ValueError(
                f"num_crops is {self.num_crops} and crop_fraction {self.crop_fraction}; they must "
                "be at least 1, and within (0, 1]."
            )

    def prompts(self, view_prompts: ViewPrompts, prompt: str) -> dict[str, list[str]]:
        """Return the prompt for every view."""
        return {"positive": view_prompts.of(prompt)}

    def gradient(
        self,
        params: None,
        prior: ImageTextPrior,
        prior_params: Any,
        views: RenderedViews,
        embeddings: Mapping[str, Conditioning],
        keys: Key[Array, "batch"],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, "batch height width 3"], None, dict[str, Float[Array, "batch"]]]:
        """Return the gradient times the pixels of an image (the step divides by them)."""
        image = views.image
        texts = embeddings["positive"].states[:, 0]

        def loss(x):
            cut = jax.vmap(lambda whole, k: self._crop(whole, k, prior.model.image_size))
            crops = cut(to_image_range(x), keys)
            vectors = prior.model.embed(prior_params, crops.reshape(-1, *crops.shape[2:]))
            vectors = vectors.reshape(len(image), self.num_crops, -1)
            distance = 1 - jnp.einsum("bcd,bd->bc", vectors, texts).mean(1)
            return distance.sum(), distance

        gradient, distance = jax.grad(loss, has_aux=True)(image)
        scale = image.shape[1] * image.shape[2]
        return gradient * scale, None, {"clip_distance": distance}

    def _crop(
        self, image: Float[Array, "height width 3"], key: Key[Array, ""], size: int
    ) -> Float[Array, "crops size size 3"]:
        """Return square cut-outs at random places, resized bilinearly."""
        side = image.shape[0]
        own = max(1, round(self.crop_fraction * side))
        corners = jax.random.randint(key, (self.num_crops, 2), 0, side - own + 1)

        def cut(corner):
            found = jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (own, own, 3))
            return jax.image.resize(found, (size, size, 3), "linear")

        return jax.vmap(cut)(corners)
