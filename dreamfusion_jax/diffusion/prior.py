"""The protocol that every frozen diffusion prior fulfills."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.noise_schedules import Schedule
from dreamfusion_jax.types import Camera, TextEmbeddings


@runtime_checkable
class Prior(Protocol):
    """A frozen text-conditional denoiser of images in [-1, 1], or of latents of such images.

    `params` is whatever `eps_hat`, `to_latents` and `to_images` need: it is handed to the
    compiled step as an argument, never closed over, and never updated.
    """

    schedule: Schedule
    image_shape: tuple[int, int, int]  # height, width, channels
    latent_shape: tuple[int, int, int]  # of what is noised; image_shape, if that is the image
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

    def to_latents(
        self, params: Any, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch h w latent"]:
        """What is noised, of images in [-1, 1]."""

    def to_images(
        self, params: Any, latents: Float[Array, "batch h w latent"]
    ) -> Float[Array, "batch height width channels"]:
        """The images of latents."""

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of a prompt that this prior cannot know; [] where it cannot tell."""

    def cameras(self, prompt: str) -> Camera | None:
        """From where it has seen what a prompt says, a batch; None where it cannot tell."""

    def architecture(self) -> "Prior":
        """Return it without parameters and words, for programs to be compiled for.

        Such are equal, and hash alike, where the same program fits: a compiled program is found
        again by them, and keeps no parameters in memory.
        """


class UnknownCameras:
    """What the priors have in common that cannot tell from where they have seen things."""

    def architecture(self) -> Any:
        """Return it as it is."""
        return self

    def cameras(self, prompt: str) -> Camera | None:
        """None."""
        return None


class PixelSpace(UnknownCameras):
    """What the priors that noise the image itself have in common."""

    image_shape: tuple[int, int, int]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape of an image."""
        return self.image_shape

    def to_latents(
        self, params: Any, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The images."""
        return images

    def to_images(
        self, params: Any, latents: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The images."""
        return latents
