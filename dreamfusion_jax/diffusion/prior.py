"""The contract of a frozen model that scores views, and of a diffusion prior among these."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.noise_schedules import Schedule
from dreamfusion_jax.types import Camera, Conditioning


class FrozenModel(abc.ABC):
    """A model of texts and images whose `params` are never updated.

    `params` is whatever its functions need: it is handed to the compiled step as an argument, and
    never closed over. A class of its own is registered with `@register("prior", NAME)`; then
    `config.prior.name` may be that name, and what it is made with are keys of `config.prior`.
    """

    image_shape: tuple[int, int, int]  # height, width, channels
    params: Any
    known_nouns: tuple[str, ...] = ()  # with synonyms; (): it may know any
    native_size: int | None = None  # pixels a side; None: any, see `at`
    view_group: int = 1  # how many views of a scene it looks at together
    large: bool = False  # one copy of it has to do on a CPU, whatever its number of cores

    @abc.abstractmethod
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Return encoded prompts, one row each; "" is the unconditional prompt."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape of what is noised: of an image, where that is the image itself."""
        return self.image_shape

    def at(self, image_size: int, prompts: Sequence[str] = ()) -> "FrozenModel":
        """Return it for views of a size in pixels; by default itself.

        Args:
          image_size: which a model with a `native_size` may ignore: views are resized for it.
          prompts: all that it will be asked for, where it is worth knowing; () is anything.

        Raises:
          UserError: it does not work at that size.
        """
        return self

    def reads_colors(self, prompts: Sequence[str]) -> bool:
        """Return whether words for colors mean anything to it if only these are its prompts."""
        return True

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that it cannot know; [] where it cannot tell."""
        return []

    def cameras(self, prompt: str) -> Camera | None:
        """Return a batch: from where it has seen what a prompt says; None if it cannot tell."""
        return None

    def architecture(self) -> Any:
        """Return it without parameters and words, for programs to be compiled for.

        Such are equal, and hash alike, where the same program fits: a compiled program is found
        again by them, and keeps no parameters in memory.
        """
        return self


class Prior(FrozenModel):
    """A frozen text-conditional denoiser of images in [-1, 1], or of latents of such images."""

    schedule: Schedule

    @abc.abstractmethod
    def eps_hat(
        self,
        params: Any,
        z_t: Float[Array, "batch height width channels"],
        t: Float[Array, "batch"],
        embeddings: Conditioning,
    ) -> Float[Array, "batch height width channels"]:
        """Return the predicted noise in z_t = alpha_t x + sigma_t eps at t in [0, 1]."""

    def to_latents(
        self, params: Any, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch h w latent"]:
        """Return what is noised, of images in [-1, 1]; by default the images."""
        return images

    def to_images(
        self, params: Any, latents: Float[Array, "batch h w latent"]
    ) -> Float[Array, "batch height width channels"]:
        """Return the images of latents; by default these."""
        return latents


def encode_rows(model: FrozenModel, **prompts: Sequence[str]) -> dict[str, Conditioning]:
    """Return rows by name: `encode_rows(prior, positive=["a cat"] * 4, empty=[""] * 4)`.

    Each prompt is encoded once.
    """
    every = list(dict.fromkeys(prompt for group in prompts.values() for prompt in group))
    return take_rows(model.encode(every), every, prompts)


def take_rows(
    encoded: Conditioning, every: Sequence[str], prompts: Mapping[str, Any]
) -> dict[str, Conditioning]:
    """Return rows by name, of what was encoded: prompts in nested lists give that many axes."""
    place = {prompt: i for i, prompt in enumerate(every)}
    index = {name: np.vectorize(place.get)(np.array(group)) for name, group in prompts.items()}
    return {name: jax.tree.map(lambda leaf, i=i: leaf[i], encoded) for name, i in index.items()}
