"""The protocol that every frozen diffusion prior fulfils."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.schedules import Schedule
from dreamfusion_jax.types import TextEmbeddings


@runtime_checkable
class Prior(Protocol):
    """A frozen text-conditional denoiser of images in [-1, 1].

    `params` is whatever `eps_hat` needs: it is handed to the compiled step as an
    argument, never closed over, and never updated.
    """

    schedule: Schedule
    image_shape: tuple[int, int, int]  # height, width, channels
    params: Any

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Encodes prompts, one row each; "" is the unconditional prompt."""

    def eps_hat(
        self,
        params: Any,
        z_t: Float[Array, "batch height width channels"],
        t: Float[Array, "batch"],
        embeddings: TextEmbeddings,
    ) -> Float[Array, "batch height width channels"]:
        """Predicts the noise in z_t = alpha_t x + sigma_t eps at t in [0, 1]."""

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that this prior cannot know; [] where it cannot tell."""
