"""Pictures as CLIP was trained on them: bicubic, center crop, normalized.

Equals transformers' CLIPImageProcessor, which resizes 8-bit pictures with PIL.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How pictures in [0, 1] become the pixels of a network.

    The shorter side is resized to `shortest_edge` and the middle of `size` pixels is kept.
    """

    size: int
    shortest_edge: int
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def resize(
        self, images: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch size size 3"]:
        """Resized and cropped pictures in [0, 1]; resized ones in steps of 1/255, as PIL does."""
        height, width = images.shape[1:3]
        short = min(height, width)
        # The longer side is cut off, not rounded (transformers' get_resize_output_image_size).
        sides = [int(self.shortest_edge * side / short) for side in (height, width)]
        for axis, side in ((2, sides[1]), (1, sides[0])):  # PIL goes along the rows first
            if images.shape[axis] != side:
                shape = (*images.shape[:axis], side, *images.shape[axis + 1 :])
                images = jax.image.resize(images, shape, "cubic")
                images = jnp.round(jnp.clip(images, 0, 1) * 255) / 255
        top, left = ((side - self.size) // 2 for side in images.shape[1:3])
        return images[:, top : top + self.size, left : left + self.size]

    def normalize(
        self, images: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch size size 3"]:
        """(x - mean) / std of each channel."""
        return (images - jnp.array(self.mean)) / jnp.array(self.std)
