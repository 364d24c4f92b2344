"""Published PyTorch weights as Flax parameters.

The rule for their names (diffusers, transformers): a number joins the word before it
("down_blocks.0" -> "down_blocks_0"), and the last word is renamed by the array's rank:
convolution [O, I, H, W] -> kernel [H, W, I, O], linear [O, I] -> kernel [I, O], norm -> scale,
embedding table -> embedding. Everything else keeps its name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.tensors import Tensors

_TABLES = (
    "shared",
    "embed_tokens",
    "relative_attention_bias",
    "token_embedding",
    "position_embedding",
)
# What training with averaged weights leaves beside the weights.
_BOOKKEEPING = re.compile(
    r"(model_)?ema\..*|decay|num_updates|optimization_step|collected_params(\..*)?"
)
Path = tuple[str, ...]


def is_bookkeeping(name: str) -> bool:
    """Return whether a tensor is none of the network's, but of how its weights were averaged."""
    return _BOOKKEEPING.fullmatch(name) is not None


def same_name(name: str) -> str:
    """Return the renaming of a model whose names need none."""
    return name


def flax_path(name: str, rank: int) -> Path:
    """Return the Flax parameter path of a published weight.

    >>> flax_path("down_blocks.0.resnets.1.conv1.weight", 4)
    ('down_blocks_0', 'resnets_1', 'conv1', 'kernel')
    """
    path: list[str] = []
    for word in name.split("."):
        if word.isdigit() and path:
            path[-1] = f"{path[-1]}_{word}"
        else:
            path.append(word)
    if path[-1] == "weight":
        table = len(path) > 1 and path[-2] in _TABLES
        path[-1] = "embedding" if table else ("scale" if rank == 1 else "kernel")
    return tuple(path)


# Where a number after "_" belongs to the published name itself.
_NUMBERED = ("linear_1", "linear_2", "wi_0", "wi_1")


def pretrained_name(path: Path) -> str:
    """Return the inverse of `flax_path`."""
    words = [w if w in _NUMBERED else re.sub(r"_(\d+)$", r".\1", w) for w in path]
    if words[-1] in ("kernel", "scale", "embedding"):
        words[-1] = "weight"
    return ".".join(words)


def flax_axes(path: Path, rank: int) -> tuple[int, ...]:
    """Return the order of the axes in which Flax has the array (see the module's rule)."""
    if path[-1] != "kernel":
        return tuple(range(rank))
    return (2, 3, 1, 0) if rank == 4 else tuple(reversed(range(rank)))


def from_pretrained(tensors: Iterable[tuple[str, np.ndarray]], dtype: Any = None) -> dict[str, Any]:
    """Return a Flax parameter tree from the (name, array) pairs of a published state dict."""
    flat = {}
    for name, array in tensors:
        path = flax_path(name, array.ndim)
        flat[path] = _laid_out(path, array, dtype)
    return flax.traverse_util.unflatten_dict(flat)


def load_pretrained_params(
    tensors: Tensors,
    like: Mapping[str, Any],
    dtype: Any,
    rename: Callable[[str], str | None] = same_name,
) -> dict[str, Any]:
    """Read a model's parameters, one tensor at a time, onto the first device.

    Args:
      tensors: the model's files.
      like: the tree of shapes that they must fill, all of it.
      dtype: of the result.
      rename: the name that the rule above is applied to, or None for what is not needed.

    Raises:
      UserError: names or shapes differ.
    """
    paths = check_pretrained(tensors, like, rename)
    flat = {
        path: jnp.asarray(_laid_out(path, tensors[name], dtype)) for path, name in paths.items()
    }
    return flax.traverse_util.unflatten_dict(flat)


def check_pretrained(
    tensors: Tensors,
    like: Mapping[str, Any],
    rename: Callable[[str], str | None] = same_name,
) -> dict[Path, str]:
    """Return the published name of every parameter; a UserError lists what differs."""
    wanted = {k: v.shape for k, v in flax.traverse_util.flatten_dict(like).items()}
    found: dict[Path, str] = {}
    wrong = []
    for name, shape in tensors.shapes.items():
        renamed = None if is_bookkeeping(name) else rename(name)
        if renamed is None:
            continue
        path = flax_path(renamed, len(shape))
        axes = flax_axes(path, len(shape))
        if path in wanted and wanted[path] != tuple(shape[axis] for axis in axes):
            wrong.append(f"{_cut(name)} {list(shape)}")
        found[path] = name
    missing = [".".join(path) for path in wanted if path not in found]
    unknown = [name for path, name in found.items() if path not in wanted]
    kinds = (("lack", missing), ("have besides", unknown), ("have in another shape", wrong))
    differences = [f"{kind} {_listed(names)}" for kind, names in kinds if names]
    if differences:
        raise UserError(
            f"The weights in {tensors.paths[0].parent} do not fit the config.json beside them: "
            f"they {'; they '.join(differences)}."
        )
    return found


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(_cut(name) for name in sorted(names)[:most]) + more


def _cut(name: str) -> str:
    """Return a name as a message shows it: a damaged file may have any."""
    return ascii(name[:100])[1:-1]


def _laid_out(path: Path, array: np.ndarray, dtype: Any) -> np.ndarray:
    turned = array.transpose(flax_axes(path, array.ndim))
    return np.asarray(turned).astype(dtype or array.dtype, order="C")
