"""The folder of a published model, in the layout of diffusers' pipelines."""

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dreamfusion_jax.diffusion.pretrained.tensors import Tensors
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_json

INDEX = "model_index.json"
_STEMS = ("diffusion_pytorch_model", "model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds a pipeline of diffusers."""
    return (path / INDEX).is_file() or (path / "unet").is_dir()


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """unet/, text_encoder/, tokenizer/, scheduler/ and, for latents, vae/."""

    path: Path

    def has(self, component: str) -> bool:
        """Whether the model has this component."""
        return (self.path / component).is_dir()

    def config(self, component: str) -> dict[str, Any]:
        """The component's config; a UserError where it is missing or damaged."""
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        path = self.path / component / name
        try:
            config = read_json(path)
        except OSError as error:
            raise UserError(
                f"{self.path} is not a whole model: {component}/{name} cannot be read "
                f"({error.strerror}); a pipeline's folder has unet, text_encoder, tokenizer and "
                "scheduler (and vae, for Stable Diffusion)."
            ) from error
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error}); fetch it again.") from error
        return config

    def tensors(self, component: str, dtype: Any) -> Tensors:
        """The component's weights, of the published variant that suits the dtype."""
        folder = self.path / component
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        return Tensors([folder / name for name in choose_files(names, dtype, str(folder))])


def choose_files(names: Collection[str], dtype: Any, where: str) -> list[str]:
    """Which of a folder's files to read: one, or the shards of one variant, in order.

    Raises:
      UserError: there are none, shards are missing, or only pickles are there.
    """
    half = jnp.dtype(dtype).itemsize < 4
    for variant in ("bf16", "fp16", "") if half else ("", "fp32", "bf16", "fp16"):
        for stem in _STEMS:
            found = _files_of(names, stem, variant, where)
            if found:
                return found
    if any(name.endswith(_PICKLES) for name in names):
        raise UserError(
            f"{where} has its weights as pickles only ({', '.join(_pickles(names)[:2])}): reading "
            "them could run any code, so they are refused; fetch the .safetensors files, or "
            "convert them with save_pretrained(..., safe_serialization=True)."
        )
    raise UserError(f"{where} has no .safetensors files; fetch the model's weights.")


def _pickles(names: Collection[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(_PICKLES))


def _files_of(names: Collection[str], stem: str, variant: str, where: str) -> list[str]:
    dotted = f".{variant}" if variant else ""
    if f"{stem}{dotted}.safetensors" in names:
        return [f"{stem}{dotted}.safetensors"]
    number = r"-(\d+)-of-(\d+)"
    # Two ways to write the variant of a shard have been published.
    pattern = re.compile(
        f"{stem}(?:{re.escape(dotted)}{number}|{number}{re.escape(dotted)})\\.safetensors"
    )
    shards = sorted(name for name in names if pattern.fullmatch(name))
    if shards:
        first = pattern.fullmatch(shards[0]).groups()
        total = int(first[1] or first[3])
        if len(shards) != total:
            raise UserError(
                f"{where} has {len(shards)} of the {total} files that the weights are split into; "
                "fetch the others."
            )
    return shards
