"""Reading safetensors files one tensor at a time.

Each tensor is mapped into memory by itself and given back when it has been used: mapping a
whole file, as the safetensors library does, keeps all that was read of it in memory, beside
what it was converted to.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import parse_json

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100_000_000


class _Entry(NamedTuple):
    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one or several safetensors files, by name.

    Indexing maps a tensor into memory, as a read-only array; `shapes` needs no reading.
    """

    def __init__(self, paths: Sequence[Path]):
        """Reads the headers.

        Raises:
          UserError: a file is missing, truncated or not safetensors, or two have a tensor of
            the same name.
        """
        self.paths = tuple(paths)
        self._entries: dict[str, _Entry] = {}
        for path in self.paths:
            for name, entry in _entries(path):
                if name in self._entries:
                    first = self._entries[name].path.name
                    raise UserError(f"{path} and {first} beside it both hold the tensor {name!r}.")
                self._entries[name] = entry

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        if not math.prod(entry.shape):
            return np.zeros(entry.shape, entry.dtype)
        return np.memmap(entry.path, entry.dtype, "r", entry.offset, entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _entries(path: Path) -> Iterator[tuple[str, _Entry]]:
    header, start, size = _read_header(path)
    for name, described in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype = _DTYPES[described["dtype"]]
            shape = tuple(int(n) for n in described["shape"])
            begin, end = (int(n) for n in described["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, f"its header says nothing that can be read of {name!r}") from error
        if end - begin != math.prod(shape) * dtype.itemsize or begin < 0:
            raise _damaged(path, f"the tensor {name!r} has another size than its header says")
        if start + end > size:
            raise _damaged(path, f"it ends before the tensor {name!r} does")
        yield name, _Entry(path, dtype, shape, start + begin)


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header, where the data begin, and the size of the file."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _MOST_HEADER_BYTES):
                raise _damaged(path, "its header is cut off")
            header = parse_json(file.read(length))
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise _damaged(path, f"its header cannot be read ({error})") from error
    return header, _LENGTH_BYTES + length, size


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"The weights {path} are damaged or not safetensors: {what}; fetch them again."
    )
