"""Weights on disk: published PyTorch names mapped to Flax, and this package's own safetensors.

The rule for published names (diffusers, transformers): a number joins the word before it
("down_blocks.0" -> "down_blocks_0"), and the last word is renamed by the array's rank:
convolution [O, I, H, W] -> kernel [H, W, I, O], linear [O, I] -> kernel [I, O], norm -> scale,
embedding table -> embedding. Everything else keeps its name.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax

from dreamfusion_jax.errors import UserError

_TABLES = ("shared", "embed_tokens", "relative_attention_bias", "token_embedding")
# T5 checkpoints hold the token table twice, once under the encoder.
_DUPLICATES = ("encoder.embed_tokens.weight",)


def flax_path(name: str, rank: int) -> tuple[str, ...]:
    """The Flax parameter path of a published weight.

    >>> flax_path("down_blocks.0.resnets.1.conv1.weight", 4)
    ('down_blocks_0', 'resnets_1', 'conv1', 'kernel')
    """
    path: list[str] = []
    for word in name.split("."):
        if word.isdigit():
            path[-1] = f"{path[-1]}_{word}"
        else:
            path.append(word)
    if path[-1] == "weight":
        table = len(path) > 1 and path[-2] in _TABLES
        path[-1] = "embedding" if table else ("scale" if rank == 1 else "kernel")
    return tuple(path)


def flax_array(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """The array as Flax lays it out (see the module's rule)."""
    if path[-1] != "kernel":
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def from_published(tensors: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
    """A Flax parameter tree from the (name, array) pairs of a published state dict."""
    flat = {}
    for name, array in tensors:
        if name in _DUPLICATES:
            continue
        path = flax_path(name, array.ndim)
        flat[path] = flax_array(path, array)
    return flax.traverse_util.unflatten_dict(flat)


def save_params(path: str | os.PathLike, params: Mapping[str, Any], dtype: Any = None) -> None:
    """Writes a parameter tree as safetensors, whole or not at all; names are paths with "/"."""
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    flat = {k: jnp.asarray(v, dtype or v.dtype) for k, v in flat.items()}
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    safetensors.flax.save_file(flat, str(partial))
    os.replace(partial, path)


def load_params(
    path: str | os.PathLike, like: Mapping[str, Any] | None = None, dtype: Any = jnp.float32
) -> dict[str, Any]:
    """Reads what `save_params` wrote, as `dtype`.

    `like` is a tree of arrays or shapes that the file must match. Raises UserError where the
    file is missing, damaged or of another model.
    """
    try:
        flat = safetensors.flax.load_file(str(path))
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"cannot read the weights {path}: {error}; fetch them again") from error
    if like is not None:
        _check_shapes(path, flat, flax.traverse_util.flatten_dict(like, sep="/"))
    flat = {k: v.astype(dtype) for k, v in flat.items()}
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def _check_shapes(
    path: str | os.PathLike, flat: Mapping[str, jax.Array], like: Mapping[str, Any]
) -> None:
    wrong = sorted(set(flat) ^ set(like))
    wrong += sorted(k for k in set(flat) & set(like) if flat[k].shape != like[k].shape)
    if wrong:
        raise UserError(
            f"the weights {path} do not fit the config.json beside them "
            f"({len(wrong)} tensors differ, the first is {wrong[0]!r}); use the pair as published"
        )
