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
from dreamfusion_jax.model_files import (
    WORD,
    check_is_file,
    each,
    shown,
    shown_error,
    whole,
)

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 2**23  # of the largest models' files it has some 100,000
_LARGEST = 2**48
_FIELDS = {
    "dtype": WORD,
    "shape": each(whole(0, _LARGEST), most=8, least=0),
    "data_offsets": each(whole(0, _LARGEST), most=2, least=2),
}
# What bitsandbytes adds to a matrix of 8 bits: the largest value of each row, and the layout.
_SCALES, _LAYOUT = ".SCB", ".weight_format"


class _Entry(NamedTuple):
    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one or several safetensors files, by name.

    Indexing maps a tensor into memory, as a read-only array; `shapes` needs no reading. Matrices
    that bitsandbytes stored in 8 bits are given as float32.
    """

    def __init__(self, paths: Sequence[Path]):
        """Read the headers.

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
                    raise UserError(
                        f"{path} and {first} beside it both hold the tensor {shown(name)}."
                    )
                self._entries[name] = entry
        self._scales = self._take_scales()

    def _take_scales(self) -> dict[str, np.ndarray]:
        """Return the factor of each row of the matrices of 8 bits, by the matrix' name."""
        scales: dict[str, np.ndarray] = {}
        for name in [name for name in self._entries if name.endswith(_SCALES)]:
            stem = name.removesuffix(_SCALES)
            matrix, scale = self._entries.get(f"{stem}.weight"), self._entries[name]
            rows: tuple[int, ...] = ()
            if matrix is not None and matrix.dtype == np.int8 and len(matrix.shape) == 2:
                rows = matrix.shape[:1]
            if not rows or scale.dtype != np.float32 or scale.shape != rows:
                raise _damaged(scale.path, f"{shown(name)} are scales, but of no matrix of 8 bits")
            layout = self._entries.pop(stem + _LAYOUT, None)
            # 0 is a matrix as it is, others are in the order of a GPU's registers.
            if layout is not None and np.any(_mapped(layout)):
                raise UserError(
                    f"{scale.path} holds matrices of 8 bits in the layout of one GPU; fetch the "
                    "fp16 variant of the model."
                )
            scales[f"{stem}.weight"] = np.asarray(_mapped(self._entries.pop(name))) / 127
        return scales

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        array = _mapped(self._entries[name])
        return array * self._scales[name][:, None] if name in self._scales else array

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _mapped(entry: _Entry) -> np.ndarray:
    """Return a tensor as it is stored."""
    if not math.prod(entry.shape):
        return np.zeros(entry.shape, entry.dtype)
    try:
        return np.memmap(entry.path, entry.dtype, "r", entry.offset, entry.shape)
    except (OSError, ValueError) as error:
        raise UserError(f"{entry.path} changed while it was read ({error}).") from error


def _entries(path: Path) -> list[tuple[str, _Entry]]:
    header, start, size = _read_header(path)
    header.pop("__metadata__", None)
    for name, described in header.items():
        _check_described(path, name, described)
    entries, place = [], 0
    # One after the other, without a gap: so that no name can stand there twice.
    for name, described in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = _DTYPES[described["dtype"]], tuple(described["shape"])
        begin, end = described["data_offsets"]
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise _damaged(path, f"the tensor {shown(name)} has another size than its header says")
        if begin != place:
            raise _damaged(path, f"the tensor {shown(name)} does not begin where another ends")
        if start + end > size:
            raise _damaged(path, f"it ends before the tensor {shown(name)} does")
        entries.append((name, _Entry(path, dtype, shape, start + begin)))
        place = end
    if start + place != size:
        raise _damaged(path, "it holds more than its header says")
    return entries


def _check_described(path: Path, name: str, described: Any) -> None:
    """Raise a UserError for what a header says of a tensor, if it cannot be."""
    known = isinstance(described, dict) and all(
        field in described and kind.holds(described[field]) for field, kind in _FIELDS.items()
    )
    # A tensor without numbers may have any shape in its other axes: no shape that overflows.
    if not known or math.prod(max(n, 1) for n in described["shape"]) > _LARGEST:
        raise _damaged(path, f"its header says nothing that can be read of {shown(name)}")
    if described["dtype"] not in _DTYPES:
        raise UserError(
            f"The weights {path} have the tensor {shown(name)} as {shown(described['dtype'])}, "
            f"which is not read; supported: {', '.join(_DTYPES)}."
        )


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """Return the header, where the data begin, and the size of the file."""
    try:
        check_is_file(path)
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
                raise _damaged(path, "its header is cut off")
            if length > _MOST_HEADER_BYTES:
                raise _damaged(path, f"its header has {length:,} bytes, more than any model's")
            header = parse_json(file.read(length))
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise _damaged(path, f"its header cannot be read ({shown_error(error)})") from error
    return header, _LENGTH_BYTES + length, size


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"The weights {path} are damaged or not safetensors: {what}; fetch them again."
    )
