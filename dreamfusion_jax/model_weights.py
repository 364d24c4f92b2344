"""This package's own model files: safetensors whose names are the paths of Flax parameters."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import safetensors
import safetensors.flax

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import shown
from dreamfusion_jax.tensors import Tensors

_SCALE = ":scale"  # what the name of an 8-bit tensor's scales ends with
_SMALL = 4096  # tensors of fewer numbers keep 16 bits: they cost little


def save_params(path: str | os.PathLike, params: Mapping[str, Any], dtype: Any = None) -> None:
    """Write a parameter tree as safetensors, whole or not at all; names are paths with "/".

    Raises UserError where the file cannot be written.

    With dtype "int8" large tensors are stored in 8 bits, with a scale for each channel of
    their last axis; the others as bfloat16.
    """
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    if dtype == "int8":
        flat = dict(item for name, v in flat.items() for item in _quantized(name, v).items())
    else:
        flat = {k: jnp.asarray(v, dtype or v.dtype) for k, v in flat.items()}
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        safetensors.flax.save_file(flat, str(partial))
        partial.chmod(0o644)  # the library's 0600 would keep everybody else from reading a model
        os.replace(partial, path)
    except (OSError, safetensors.SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error}") from error


def _quantized(name: str, value: jax.Array) -> dict[str, jax.Array]:
    if value.ndim < 2 or value.size < _SMALL:
        return {name: jnp.asarray(value, jnp.bfloat16)}
    scale = jnp.max(jnp.abs(value), axis=tuple(range(value.ndim - 1))) / 127
    whole = jnp.round(value / jnp.maximum(scale, 1e-12)).astype(jnp.int8)
    return {name: whole, name + _SCALE: scale.astype(jnp.float32)}


def load_params(
    path: str | os.PathLike, like: Mapping[str, Any] | None = None, dtype: Any = jnp.float32
) -> dict[str, Any]:
    """Read what `save_params` wrote, as `dtype`.

    Args:
      path: of the file.
      like: a tree of arrays or shapes that the file must match; this is checked before it is read.
      dtype: of the result.

    Raises:
      UserError: the file is missing, damaged or of another model.
    """
    tensors = Tensors([pathlib.Path(path)])
    scales = {k.removesuffix(_SCALE): k for k in tensors if k.endswith(_SCALE)}
    shapes = {k: shape for k, shape in tensors.shapes.items() if not k.endswith(_SCALE)}
    for name, scale in scales.items():
        if name not in shapes or tensors.shapes[scale] != shapes[name][-1:]:
            raise UserError(f"the weights {path} have scales for {shown(name)} that do not fit it")
    if like is not None:
        _check_shapes(path, shapes, flax.traverse_util.flatten_dict(like, sep="/"))
    flat = {}
    for name in shapes:
        value = jnp.asarray(tensors[name])
        value = value * tensors[scales[name]] if name in scales else value
        flat[name] = value.astype(dtype)
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def _check_shapes(
    path: str | os.PathLike, found: Mapping[str, tuple[int, ...]], like: Mapping[str, Any]
) -> None:
    wrong = sorted(set(found) ^ set(like))
    wrong += sorted(k for k in set(found) & set(like) if found[k] != like[k].shape)
    if wrong:
        raise UserError(
            f"the weights {path} do not fit the config.json beside them "
            f"({len(wrong)} tensors differ, the first is {shown(wrong[0])}); use the pair as "
            "published"
        )
