"""The folder of a published model, in the layout of diffusers' pipelines."""

import dataclasses
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_text
from dreamfusion_jax.model_files import names_in, read_config, shown
from dreamfusion_jax.tensors import Tensors

INDEX = "model_index.json"
_STEMS = ("diffusion_pytorch_model", "model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_OTHERS = {".msgpack": "Flax", ".h5": "TensorFlow", ".onnx": "ONNX"}
# Read where there is nothing better.
_LESSER = ("fp8", "fp8_e4m3fn", "fp8_e5m2", "non_ema", "8bit")
_PARTS = ("unet", "transformer")


def is_model_folder(path: Path) -> bool:
    """Return whether a folder holds a pipeline of diffusers."""
    return os.path.isfile(path / INDEX) or any(os.path.isdir(path / part) for part in _PARTS)


def resolved(path: Path) -> Path:
    """Return the folder of a model: the path itself, or the snapshot where it is the hub's cache.

    The cache has a folder models--OWNER--NAME for each model, with a snapshot of each revision:
    the one that refs/main names counts, or else the newest.

    Raises:
      UserError: there is no snapshot.
    """
    snapshots = path / "snapshots"
    own = is_model_folder(path) or os.path.isfile(path / "config.json")
    if own or not os.path.isdir(snapshots):
        return path
    names = [name for name in names_in(snapshots) if (snapshots / name).is_dir()]
    try:
        main = read_text(path / "refs" / "main", largest=1000).strip()
    except (OSError, ValueError):
        main = ""
    if main in names:
        return snapshots / main
    if not names:
        raise UserError(f"{path} of the hub's cache holds no snapshot; fetch the model again.")
    return max((snapshots / name for name in names), key=lambda found: found.stat().st_mtime)


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """unet/, text_encoder/, tokenizer/, scheduler/ and, for latents, vae/."""

    path: Path

    def has(self, component: str) -> bool:
        """Return whether the model has this component."""
        return (self.path / component).is_dir()

    def index(self) -> dict[str, Any]:
        """Return what model_index.json says, {} where there is none.

        Raises:
          UserError: it is damaged.
        """
        try:
            return read_config(self.path / INDEX)
        except OSError:
            return {}

    def config(self, component: str) -> dict[str, Any]:
        """Return the component's config; a UserError where it is missing or damaged."""
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        try:
            return read_config(self.path / component / name)
        except OSError as error:
            raise UserError(
                f"{self.path} is not a whole model: {component}/{name} cannot be read "
                f"({error.strerror}); a pipeline's folder has unet, text_encoder, tokenizer and "
                "scheduler (and vae, for Stable Diffusion)."
            ) from error

    def tensors(self, component: str, dtype: Any) -> Tensors:
        """Return the component's weights, of the published variant that suits the dtype.

        Raises:
          UserError: there are none, or they are damaged.
        """
        return Tensors(weight_files(self.path / component, dtype))


def weight_files(folder: Path, dtype: Any) -> list[Path]:
    """Return the files of a folder to read the weights from, see `choose_files`.

    Raises:
      UserError: as `choose_files`, or an index names a file outside of the folder.
    """
    names = names_in(folder)
    for name in names:
        if name.endswith(".safetensors.index.json"):
            _check_index(folder / name)
    return [folder / name for name in choose_files(names, dtype, str(folder))]


def _check_index(path: Path) -> None:
    """Raise a UserError for an index of shards that leads out of its folder."""
    try:
        files = read_config(path).get("weight_map")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    if not isinstance(files, dict):
        raise UserError(f"{path} has no weight_map; fetch it again.")
    for file in files.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise UserError(
                f"{path} names the file {shown(file)}, which is not one beside it; fetch it again."
            )


def choose_files(names: Collection[str], dtype: Any, where: str) -> list[str]:
    """Return which of a folder's files to read: one, or the shards of one variant, in order.

    Raises:
      UserError: there are none, shards are missing, or only files of other kinds are there.
    """
    half = jnp.dtype(dtype).itemsize < 4
    best = ("bf16", "fp16", "") if half else ("", "fp32", "bf16", "fp16")
    for variant in (*best, *_LESSER):
        for stem in _STEMS:
            found = _files_of(names, stem, variant, where)
            if found:
                return found
    raise _no_files(names, where)


def _no_files(names: Collection[str], where: str) -> UserError:
    others = sorted(name for name in names if name.endswith(".safetensors"))
    if others:
        return UserError(
            f"{where} has .safetensors files, but none of a published name ({others[0]}); call it "
            f"{_STEMS[0]}.safetensors (a text encoder's {_STEMS[1]}.safetensors)."
        )
    if any(name.endswith(_PICKLES) for name in names):
        return UserError(
            f"{where} has its weights as pickles only ({', '.join(_pickles(names)[:2])}): reading "
            "them could run any code, so they are refused; fetch the .safetensors files, or "
            "convert them with save_pretrained(..., safe_serialization=True)."
        )
    for ending, library in _OTHERS.items():
        if any(name.endswith(ending) for name in names):
            return UserError(
                f"{where} has its weights in {library}'s format only ({ending}), which is not "
                "read; fetch the .safetensors files."
            )
    return UserError(f"{where} has no .safetensors files; fetch the model's weights.")


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
    if shards and (match := pattern.fullmatch(shards[0])):
        first = match.groups()
        total = int(first[1] or first[3])
        if len(shards) != total:
            raise UserError(
                f"{where} has {len(shards)} of the {total} files that the weights are split into; "
                "fetch the others."
            )
    return shards
