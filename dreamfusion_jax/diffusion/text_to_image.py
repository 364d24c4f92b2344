"""The embedded prior: a small pixel UNet with its own T5-style text encoder.

A model folder holds config.json, model.safetensors, tokenizer.json and a model card, README.md.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import tokenizers
from jaxtyping import Array, Float

from dreamfusion_jax.diffusion.noise_schedules import CosineSchedule
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import (
    TABLE,
    WORD,
    check_fields,
    each,
    number,
    one_of,
    read_config,
    whole,
)
from dreamfusion_jax.model_weights import load_params, save_params
from dreamfusion_jax.models.t5 import T5Encoder, t5_from_config
from dreamfusion_jax.models.unet import UNet, check_size, unet_from_config
from dreamfusion_jax.prompts.word_tokenizer import (
    check_ids,
    largest_id,
    load_tokenizer,
    tokenize,
    unknown_words,
)
from dreamfusion_jax.types import Conditioning

PREDICTIONS = ("eps", "v")
TIME_UNIT = 1000.0  # t in [0, 1] is handed to the UNet in thousandths, like discrete steps


def eps_from_prediction(
    prediction: Float[Array, "batch h w c"],
    z_t: Float[Array, "batch h w c"],
    alpha: Float[Array, "batch"],
    sigma: Float[Array, "batch"],
    kind: str,
) -> Float[Array, "batch h w c"]:
    """Return the noise, from a network that predicts it ("eps"), the image ("x"), or "v".

    v = alpha eps - sigma x (Salimans and Ho 2022).
    """
    alpha, sigma = alpha[:, None, None, None], sigma[:, None, None, None]
    if kind == "eps":
        return prediction
    if kind == "x":
        return (z_t - alpha * prediction) / sigma
    return sigma * z_t + alpha * prediction


@dataclasses.dataclass(frozen=True)
class TextToImagePrior(Prior):
    """A frozen text-to-image model that fulfills the contract of `Prior`.

    `params` has the two trees "unet" and "text_encoder".
    """

    unet: UNet
    text_encoder: T5Encoder | None
    tokenizer: tokenizers.Tokenizer | None = dataclasses.field(compare=False)
    params: Any = dataclasses.field(compare=False, repr=False)
    image_shape: tuple[int, int, int]
    tokens: int
    prediction: str = "v"
    schedule: CosineSchedule = CosineSchedule()
    known_nouns: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    @property
    def native_size(self) -> int:  # type: ignore[override]  # it is frozen
        """Pixels a side of its images."""
        return self.image_shape[0]

    @classmethod
    def load(cls, folder: str | os.PathLike, dtype: Any = jnp.float32) -> "TextToImagePrior":
        """Read a model folder; UserError where it is missing, damaged or inconsistent."""
        folder = pathlib.Path(folder)
        config = _read_config(folder / "config.json")
        networks = _checked_networks(config, folder, dtype)
        params = load_params(folder / "model.safetensors", param_shapes(*networks, config), dtype)
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        vocabulary = networks[1].vocab_size
        check_ids(largest_id(tokenizer), vocabulary, f"{folder}/tokenizer.json")
        return cls.build(config, tokenizer, params, dtype)

    @classmethod
    def build(
        cls,
        config: dict[str, Any],
        tokenizer: tokenizers.Tokenizer,
        params: Any,
        dtype: Any = jnp.float32,
    ) -> "TextToImagePrior":
        """Return the prior of a config (the content of config.json), a tokenizer and parameters."""
        unet, text_encoder = networks_from_config(config, dtype)
        size = config["image_size"]
        return cls(
            unet,
            text_encoder,
            tokenizer,
            params,
            image_shape=(size, size, unet.in_channels),
            tokens=config["tokens"],
            prediction=config["prediction"],
            schedule=CosineSchedule(t_max=config["t_max"]),
            known_nouns=tuple(config.get("names", ())),
        )

    def architecture(self) -> "TextToImagePrior":
        """Return it without its parameters and its tokenizer."""
        return dataclasses.replace(self, params=None, tokenizer=None, known_nouns=())

    @functools.cached_property
    def _encode(self):
        return jax.jit(self.text_encoder.apply)

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, one row each; "" is the unconditional prompt."""
        return self.encode_with(self.params, prompts)

    def encode_with(self, params: Any, prompts: Sequence[str]) -> Conditioning:
        """`encode` with other parameters (of a model in training)."""
        assert self.tokenizer is not None  # an architecture alone reads nothing
        ids, mask = tokenize(self.tokenizer, prompts, self.tokens)
        states = self._encode({"params": params["text_encoder"]}, ids, mask)
        return Conditioning(states=states, mask=jnp.asarray(mask))

    def eps_hat(
        self,
        params: Any,
        z_t: Float[Array, "batch height width channels"],
        t: Float[Array, "batch"],
        embeddings: Conditioning,
    ) -> Float[Array, "batch height width channels"]:
        """Predict the noise in z_t = alpha_t x + sigma_t eps at t in [0, 1]."""
        variables = {"params": params["unet"]}
        out: Any = self.unet.apply(
            variables, z_t, t * TIME_UNIT, embeddings.states, embeddings.mask
        )
        alpha, sigma = self.schedule.alpha_sigma(t)
        out = out[..., : z_t.shape[-1]]  # a learned variance, if any, comes after the mean
        return eps_from_prediction(out, z_t, alpha, sigma, self.prediction)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that no training caption had."""
        assert self.tokenizer is not None  # an architecture alone reads nothing
        return unknown_words(self.tokenizer, prompt)


def save_prior(
    folder: str | os.PathLike,
    config: dict[str, Any],
    tokenizer: tokenizers.Tokenizer,
    params: Any,
) -> None:
    """Write a model folder that `TextToImagePrior.load` reads (the model card apart).

    config["weights"] is how its numbers are stored: "bfloat16" (default) or "int8".
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_params(folder / "model.safetensors", params, config.get("weights", "bfloat16"))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def networks_from_config(
    config: dict[str, Any], dtype: Any = jnp.float32
) -> tuple[UNet, T5Encoder]:
    """Return the UNet and the text encoder of a model folder's config.

    Raises:
      UserError: values make no sense, or the two do not fit together.
    """
    unet = unet_from_config(config["unet"], dtype)
    text_encoder = t5_from_config(config["text_encoder"], dtype)
    if unet.text_width != text_encoder.d_model:
        raise UserError(
            f"the text encoder's d_model is {text_encoder.d_model}, and the UNet reads states of "
            f"{unet.text_width}; use a config as published"
        )
    return unet, text_encoder


def _checked_networks(
    config: dict[str, Any], folder: pathlib.Path, dtype: Any
) -> tuple[UNet, T5Encoder]:
    """`networks_from_config`, with the folder in what is said of wrong values."""
    try:
        unet, text_encoder = networks_from_config(config, dtype)
        check_size(unet, config["image_size"], "image_size")
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    return unet, text_encoder


def init_params(
    unet: UNet, text_encoder: T5Encoder, config: dict[str, Any], key: jax.Array
) -> dict[str, Any]:
    """Return fresh parameters: {"unet": ..., "text_encoder": ...}."""
    size, tokens = config["image_size"], config["tokens"]
    image = jnp.zeros((1, size, size, unet.in_channels))
    ids, mask = jnp.zeros((1, tokens), jnp.int32), jnp.ones((1, tokens), bool)
    states = jnp.zeros((1, tokens, text_encoder.d_model))
    unet_key, text_key = jax.random.split(key)
    return {
        "unet": unet.init(unet_key, image, jnp.zeros(1), states, mask)["params"],
        "text_encoder": text_encoder.init(text_key, ids, mask)["params"],
    }


def param_shapes(unet: UNet, text_encoder: T5Encoder, config: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes of the parameters, without computing them."""
    key = jax.random.key(0)
    return jax.eval_shape(lambda k: init_params(unet, text_encoder, config, k), key)


_KINDS = {
    "image_size": whole(1, 1024),
    "tokens": whole(2, 1024),
    "prediction": one_of(*PREDICTIONS),
    "t_max": number(1e-3, 1),
    "unet": TABLE,
    "text_encoder": TABLE,
}


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    try:
        config = read_config(path)
    except OSError as error:
        raise UserError(
            f"{path.parent} is not a model folder: {path.name} cannot be read ({error.strerror}); "
            "give the folder that holds config.json and model.safetensors"
        ) from error
    if missing := sorted(_KINDS.keys() - set(config)):
        raise UserError(f"{path} lacks {', '.join(missing)}: it is not a model of this package")
    check_fields(config, _KINDS | {"names": each(WORD, most=100_000, least=0)}, str(path))
    return config
