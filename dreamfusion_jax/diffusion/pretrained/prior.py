"""DeepFloyd IF (stage I) and Stable Diffusion as priors."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.pretrained.convert import (
    check_published,
    load_published,
    same_name,
)
from dreamfusion_jax.diffusion.pretrained.folder import ModelFolder
from dreamfusion_jax.diffusion.pretrained.memory import check_fits, parameter_bytes
from dreamfusion_jax.diffusion.pretrained.text import TextReader, text_reader
from dreamfusion_jax.diffusion.prior import UnknownCameras
from dreamfusion_jax.diffusion.schedules import DiscreteSchedule, schedule_from_config
from dreamfusion_jax.diffusion.text_to_image import eps_from_prediction
from dreamfusion_jax.diffusion.unet import UNet, unet_from_config
from dreamfusion_jax.diffusion.vae import VAE, vae_from_config
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.types import TextEmbeddings

_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x"}
# What diffusers called the parts of the VAE's attention at first.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedPrior(UnknownCameras):
    """A published model that fulfils the `Prior` protocol.

    Nothing large is read before it is needed: the text encoder when prompts are encoded, and
    not kept; the UNet and the VAE when `params` are first asked for. Encode prompts first,
    and the two are never in memory together.
    """

    unet: UNet
    vae: VAE | None  # None: the model works on pixels
    text: TextReader | None  # None: prompts are encoded elsewhere
    schedule: DiscreteSchedule
    prediction: str
    image_shape: tuple[int, int, int]
    latent_shape: tuple[int, int, int]
    read: Callable[[], dict[str, Any]]

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """The UNet's parameters and, for latents, the VAE's."""
        return self.read()

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Encodes prompts, one row each; "" is the unconditional prompt.

        Raises:
          ValueError: the prior was loaded without its text encoder.
        """
        if self.text is None:
            raise ValueError("this prior was loaded with encodes=False")
        return self.text.encode(prompts)

    def eps_hat(
        self,
        params: Any,
        z_t: Float[Array, "batch height width channels"],
        t: Float[Array, "batch"],
        embeddings: TextEmbeddings,
    ) -> Float[Array, "batch height width channels"]:
        """Predicts the noise in z_t = alpha_t x + sigma_t eps at t in [0, 1].

        All tokens are attended to, padding too, as when these models were trained.
        """
        variables = {"params": params["unet"]}
        out = self.unet.apply(variables, z_t, self.schedule.step(t), embeddings.states)
        out = out[..., : z_t.shape[-1]]  # a learned variance, if any, comes after the mean
        alpha, sigma = self.schedule.alpha_sigma(t)
        return eps_from_prediction(out, z_t, alpha, sigma, self.prediction)

    def to_latents(
        self, params: Any, images: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch h w channels"]:
        """What is noised, of images in [-1, 1]."""
        if self.vae is None:
            return images
        return self.vae.apply({"params": params["vae"]}, images, method="encode")

    def to_images(
        self, params: Any, latents: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch height width 3"]:
        """Images of latents."""
        if self.vae is None:
            return latents
        return self.vae.apply({"params": params["vae"]}, latents, method="decode")

    def unknown_words(self, prompt: str) -> list[str]:
        """[]: their vocabularies are made of parts of words."""
        return []


def load_pretrained(
    path: Path, dtype: Any = jnp.float32, *, encodes: bool = True
) -> PretrainedPrior:
    """The prior of a model folder in the layout of diffusers.

    All files are checked here against their configs, by their headers, those of the text encoder
    only where it `encodes`.

    Raises:
      UserError: a file is missing, damaged or of another model, a block or setting is not
        supported, or the model does not fit into memory.
    """
    folder = ModelFolder(path)
    unet, vae, schedule = check_kind(folder, dtype)
    size = folder.config("unet").get("sample_size") or 64
    latent_shape = (size, size, unet.in_channels)
    factor = 1 if vae is None else vae.factor
    networks = _networks(folder, unet, vae, latent_shape, dtype)
    check_fits(f"{path.name}", sum(parameter_bytes(n.shapes, dtype) for n in networks.values()))
    return PretrainedPrior(
        unet=unet,
        vae=vae,
        text=text_reader(folder, dtype) if encodes else None,
        schedule=schedule,
        prediction=_prediction(folder.config("scheduler"), path),
        image_shape=(size * factor, size * factor, 3),
        latent_shape=latent_shape,
        read=lambda: {name: network.read() for name, network in networks.items()},
    )


def check_kind(
    folder: ModelFolder, dtype: Any = jnp.float32
) -> tuple[UNet, VAE | None, DiscreteSchedule]:
    """The networks and the schedule that the configs describe; no weights are looked at.

    Raises:
      UserError: it is no text-to-image model, or of a kind that is not supported.
    """
    try:
        unet = unet_from_config(folder.config("unet"), dtype)
        vae = vae_from_config(folder.config("vae"), dtype) if folder.has("vae") else None
        schedule = schedule_from_config(folder.config("scheduler"))
    except UserError as error:
        raise UserError(f"{folder.path}: {error}") from error
    channels = 3 if vae is None else vae.latent_channels
    if unet.in_channels != channels:
        raise UserError(
            f"{folder.path} is no text-to-image model of a known kind: its UNet takes "
            f"{unet.in_channels} channels, and what it would see has {channels} (models for "
            "inpainting, depth or editing take more; give the one for text alone)."
        )
    return unet, vae, schedule


@dataclasses.dataclass(frozen=True)
class _Network:
    """A part of a model whose parameters are still on disk."""

    shapes: Any
    read: Callable[[], Any]


def _networks(
    folder: ModelFolder, unet: UNet, vae: VAE | None, latent_shape: tuple, dtype: Any
) -> dict[str, _Network]:
    def network(name, module, inputs, rename=same_name):
        shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
        tensors = folder.tensors(name, dtype)
        check_published(tensors, shapes, rename)
        return _Network(shapes, lambda: load_published(tensors, shapes, dtype, rename))

    width = unet.encoder_hid_dim or unet.cross_attention_dim
    inputs = (jnp.zeros((1, *latent_shape)), jnp.zeros(1), jnp.zeros((1, 1, width)))
    networks = {"unet": network("unet", unet, inputs)}
    if vae is not None:
        side = 2 * vae.factor
        networks["vae"] = network("vae", vae, (jnp.zeros((1, side, side, 3)),), vae_name)
    return networks


def vae_name(name: str) -> str:
    """The name of a VAE's weight, whichever it was published under."""
    words = name.split(".")
    if "attentions" in words:
        words = [_OLD_NAMES.get(word, word) for word in words]
    return ".".join(words)


def _prediction(scheduler: dict[str, Any], path: Path) -> str:
    kind = scheduler.get("prediction_type", "epsilon")
    if kind not in _PREDICTIONS:
        raise UserError(
            f"{path}/scheduler has prediction_type={kind!r}; supported: {', '.join(_PREDICTIONS)}."
        )
    return _PREDICTIONS[kind]
