"""DeepFloyd IF (stage I) and Stable Diffusion as priors."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.noise_schedules import DiscreteSchedule, schedule_from_config
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.diffusion.text_to_image import eps_from_prediction
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import NULL, check_fields, each, either, shown, whole
from dreamfusion_jax.models.unet import UNet, check_size, unet_from_config
from dreamfusion_jax.models.vae import VAE, vae_from_config
from dreamfusion_jax.pretrained.convert import (
    check_pretrained,
    load_pretrained_params,
    same_name,
)
from dreamfusion_jax.pretrained.folder import ModelFolder
from dreamfusion_jax.pretrained.memory import check_fits, parameter_bytes
from dreamfusion_jax.pretrained.text_encoders import TextEncoder, text_encoder_of
from dreamfusion_jax.types import Conditioning

_LARGEST_SIDE = 1024
_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x"}
# The class that each part may have, and what others are.
_CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
_OTHER_CLASSES = {
    "AutoencoderTiny": "a small stand-in for a VAE",
    "AsymmetricAutoencoderKL": "a VAE for inpainting",
    "AutoencoderKLTemporalDecoder": "a VAE for video",
    "ConsistencyDecoderVAE": "a decoder that is a diffusion model itself",
    "VQModel": "an autoencoder with a codebook",
    "MultiViewUNetModel": "MVDream's UNet for several views",
    "UNetMV2DConditionModel": "a UNet for several views",
    "UNet2DModel": "a UNet without text",
    "UNet3DConditionModel": "a UNet for video",
    "UNetMotionModel": "a UNet for video",
    "UNetSpatioTemporalConditionModel": "a UNet for video",
    "StableCascadeUNet": "Stable Cascade's UNet",
    "Kandinsky3UNet": "Kandinsky's UNet",
}
# Folders of pipelines that have no UNet.
_OTHER_PARTS = {
    "transformer": "a diffusion transformer (as SD3, FLUX and PixArt have)",
    "decoder": "a cascade of a prior and a decoder (as Stable Cascade has)",
    "prior": "a prior of image embeddings (as Stable Cascade and Kandinsky have)",
}
# What diffusers called the parts of the VAE's attention at first.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclasses.dataclass(frozen=True)
class PretrainedPrior(Prior):
    """A published model that fulfills the contract of `Prior`.

    Nothing large is read before it is needed: the text encoder when prompts are encoded, and
    not kept; the UNet and the VAE when `params` are first asked for. Encode prompts first,
    and the two are never in memory together.
    """

    unet: UNet
    vae: VAE | None  # None: the model works on pixels
    # None: prompts are encoded elsewhere.
    text: TextEncoder | None = dataclasses.field(compare=False)
    schedule: DiscreteSchedule
    prediction: str
    image_shape: tuple[int, int, int]
    noised_shape: tuple[int, int, int]
    read: Callable[[], dict[str, Any]] | None = dataclasses.field(compare=False)

    large = True

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape of what the UNet sees."""
        return self.noised_shape

    @property
    def native_size(self) -> int:  # type: ignore[override]  # it is frozen
        """Pixels a side of its images."""
        return self.image_shape[0]

    def architecture(self) -> "PretrainedPrior":
        """Return it without its parameters and its text encoder."""
        return dataclasses.replace(self, text=None, read=dict)

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """The UNet's parameters and, for latents, the VAE's."""
        assert self.read is not None
        return self.read()

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, one row each; "" is the unconditional prompt.

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
        embeddings: Conditioning,
    ) -> Float[Array, "batch height width channels"]:
        """Predict the noise in z_t = alpha_t x + sigma_t eps at t in [0, 1].

        All tokens are attended to, padding too, as when these models were trained.
        """
        variables = {"params": params["unet"]}
        out: Any = self.unet.apply(variables, z_t, self.schedule.step(t), embeddings.states)
        out = out[..., : z_t.shape[-1]]  # a learned variance, if any, comes after the mean
        alpha, sigma = self.schedule.alpha_sigma(t)
        return eps_from_prediction(out, z_t, alpha, sigma, self.prediction)

    def to_latents(
        self, params: Any, images: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch h w channels"]:
        """Return what is noised, of images in [-1, 1]."""
        if self.vae is None:
            return images
        latents: Any = self.vae.apply({"params": params["vae"]}, images, method="encode")
        return latents

    def to_images(
        self, params: Any, latents: Float[Array, "batch h w channels"]
    ) -> Float[Array, "batch height width 3"]:
        """Return images of latents."""
        if self.vae is None:
            return latents
        images: Any = self.vae.apply({"params": params["vae"]}, latents, method="decode")
        return images


def load_pretrained(
    path: Path, dtype: Any = jnp.float32, *, encodes: bool = True
) -> PretrainedPrior:
    """Return the prior of a model folder in the layout of diffusers.

    All files are checked here against their configs, by their headers, those of the text encoder
    only where it `encodes`.

    Raises:
      UserError: a file is missing, damaged or of another model, a block or setting is not
        supported, or the model does not fit into memory.
    """
    folder = ModelFolder(path)
    unet, vae, schedule = check_kind(folder, dtype)
    size = _sample_size(folder, unet)
    latent_shape = (size, size, unet.in_channels)
    factor = 1 if vae is None else vae.factor
    networks = _networks(folder, unet, vae, latent_shape, dtype)
    text = text_encoder_of(folder, dtype) if encodes else None
    if text is not None and text.width != unet.text_width:
        raise UserError(
            f"{path} is not of one model: its text encoder gives states of {text.width}, and "
            f"its UNet reads states of {unet.text_width}; use the parts as published."
        )
    check_fits(f"{path.name}", sum(parameter_bytes(n.shapes, dtype) for n in networks.values()))
    return PretrainedPrior(
        unet=unet,
        vae=vae,
        text=text,
        schedule=schedule,
        prediction=_prediction(folder.config("scheduler"), path),
        image_shape=(size * factor, size * factor, 3),
        noised_shape=latent_shape,
        read=lambda: {name: network.read() for name, network in networks.items()},
    )


def check_kind(
    folder: ModelFolder, dtype: Any = jnp.float32
) -> tuple[UNet, VAE | None, DiscreteSchedule]:
    """Return the networks and the schedule that the configs describe; no weights are looked at.

    Raises:
      UserError: it is no text-to-image model, or of a kind that is not supported.
    """
    _check_classes(folder)
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


def _check_classes(folder: ModelFolder) -> None:
    """Raise a UserError that says what a model is, where it is of another kind."""
    index = folder.index()
    parts = [part for part in _OTHER_PARTS if folder.has(part) or index.get(part)]
    if parts and not folder.has("unet"):
        name = index.get("_class_name", "unknown")
        raise UserError(
            f"{folder.path} (of the class {shown(name)}) has {_OTHER_PARTS[parts[0]]} in place of "
            "a UNet: it is not supported; DeepFloyd IF (stage I) and Stable Diffusion 1.x and 2.x "
            "are."
        )
    for part, known in _CLASSES.items():
        name = folder.config(part).get("_class_name") if folder.has(part) else None
        if name is not None and name != known:
            meant = _OTHER_CLASSES.get(name) if isinstance(name, str) else None
            raise UserError(
                f"{folder.path}/{part} is of the class {shown(name)}"
                f"{f', {meant}' if meant else ''}: it is not supported; {known} is."
            )


def _sample_size(folder: ModelFolder, unet: UNet) -> int:
    """Return the side of what the UNet sees, in its own pixels."""
    config, where = folder.config("unet"), f"{folder.path}/unet/config.json"
    side = whole(1, _LARGEST_SIDE)
    kind = either(side, each(side, most=2, least=2), NULL)
    check_fields(config, {"sample_size": kind}, where)
    size = config.get("sample_size") or 64
    height, width = size if isinstance(size, list) else (size, size)
    if height != width:
        raise UserError(
            f"{where} has sample_size={size}: models of pictures that are not square are not "
            "supported."
        )
    check_size(unet, height, f"{where}: sample_size")
    return height


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
        check_pretrained(tensors, shapes, rename)
        return _Network(shapes, lambda: load_pretrained_params(tensors, shapes, dtype, rename))

    shape = jax.ShapeDtypeStruct
    sizes = ((1, *latent_shape), (1,), (1, 1, unet.text_width))
    inputs = tuple(shape(size, jnp.float32) for size in sizes)
    networks = {"unet": network("unet", unet, inputs)}
    if vae is not None:
        side = 2 * vae.factor
        networks["vae"] = network("vae", vae, (shape((1, side, side, 3), jnp.float32),), vae_name)
    return networks


def vae_name(name: str) -> str:
    """Return the name of a VAE's weight, whichever it was published under."""
    words = name.split(".")
    if "attentions" in words:
        words = [_OLD_NAMES.get(word, word) for word in words]
    return ".".join(words)


def _prediction(scheduler: dict[str, Any], path: Path) -> str:
    kind = scheduler.get("prediction_type", "epsilon")
    if not isinstance(kind, str) or kind not in _PREDICTIONS:
        raise UserError(
            f"{path}/scheduler has prediction_type={shown(kind)}; "
            f"supported: {', '.join(_PREDICTIONS)}."
        )
    return _PREDICTIONS[kind]
