"""Colors as latents: what a scene renders, in the form that a prior noises.

Stable Diffusion's latents are near to a linear function of colors. A scene that is rendered
as latents has a fourth channel beside red, green and blue, for what no color says: together
they span all latents, nothing has to be encoded, and the scene still has colors to look at.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.cfg import to_model_range

# Red, green and blue in [-1, 1] of each latent channel, fitted to the decoder of Stable
# Diffusion 1.x by its users; 2.x has the same autoencoder.
LATENT_TO_COLOR = np.array(
    [
        [0.298, 0.207, 0.208],
        [0.187, 0.286, 0.173],
        [-0.158, 0.189, 0.264],
        [-0.184, -0.271, -0.473],
    ]
)
_COLOR_TO_LATENT = np.linalg.pinv(LATENT_TO_COLOR)
# The direction in which latents change without changing color.
_INVISIBLE = np.linalg.svd(LATENT_TO_COLOR)[0][:, 3]
_REACH = 2.0  # latents are of about unit variance
CHANNELS = 4


def colors_to_latents(colors: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """Return latents of red, green, blue and the invisible channel, all in [0, 1]."""
    basis = np.concatenate([_COLOR_TO_LATENT, _REACH * _INVISIBLE[None]]).astype(np.float32)
    return jnp.matmul(to_model_range(colors), basis, precision=jax.lax.Precision.HIGHEST)


@runtime_checkable
class Sized(Protocol):
    """What has images of a size and latents of one, like a prior."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of its images."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Those of what it denoises."""


def to_prior_range(
    prior: Sized, rendered: Float[Array, "views height width channels"]
) -> Float[Array, "views h w c"]:
    """Return rendered images in the prior's size and range: its images, or latents of them."""
    if rendered.shape[-1] == CHANNELS:
        shape = (*prior.latent_shape[:2], CHANNELS)
        resized = jax.image.resize(rendered, (len(rendered), *shape), "linear")
        return colors_to_latents(resized)
    resized = jax.image.resize(rendered, (len(rendered), *prior.image_shape), "linear")
    return to_model_range(resized)
