"""Files: written so that a reader never meets half of one, and read with their kind checked."""

import contextlib
import glob
import importlib.util
import io
import json
import os
import pathlib
import re
import stat
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from dreamfusion_jax.errors import UserError

_UMASK = os.umask(0o077)  # can only be read by setting it
os.umask(_UMASK)
_ABANDONED = 3600  # seconds after which a temporary file is one that a killed process left
_LARGEST_TEXT = 2**28  # bytes
_LARGEST_IMAGE = 2**26  # pixels: 8192 x 8192


def cache_folder() -> pathlib.Path:
    """Return DREAMFUSION_CACHE, or dreamfusion_jax in the user's cache folder."""
    own = os.environ.get("DREAMFUSION_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(own) if own else pathlib.Path(base) / "dreamfusion_jax"


def local_path(path: str | os.PathLike) -> pathlib.Path:
    """Return a path with ~ expanded.

    Raises:
      UserError: it is an address like gs://bucket/run, which would become a folder named "gs:".
    """
    text = os.fspath(path)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text)
    if scheme:
        raise UserError(
            f"{text} is an address, and results are written to folders of this machine; give a "
            f"folder, and copy it to {scheme[1]} afterwards or mount that as a folder."
        )
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"There is no home folder for {text!r}; give the whole path.") from error


def import_file(path: pathlib.Path) -> ModuleType:
    """Return a Python file as a module, run anew; what the file raises is raised."""
    # Dataclasses and pickle look for the module under its name: it is the same on every host.
    name = f"{path.stem}_{zlib.crc32(str(path.absolute()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class Unreadable(OSError):
    """A file that is not what it must be; `strerror` says why."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(None, reason, str(path))

    def __str__(self) -> str:
        return self.strerror or ""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yield a temporary path in the same folder; on success it takes `path`'s place.

    On any error the temporary file goes away and an existing `path` stays as it was.

    Raises:
      UserError: the file cannot be written (no permission, no space, no folder).
    """
    target = local_path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
        )
        os.close(handle)
        temporary = pathlib.Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp's 0600 would keep a web server from serving it
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"Cannot write {target} ({reason}); make room or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sweep(target: pathlib.Path) -> None:
    """Remove what killed processes have left beside a file."""
    for path in target.parent.glob(f".{glob.escape(target.stem)}-????????{target.suffix}"):
        with contextlib.suppress(OSError):  # another process was first
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a whole file at once.

    Raises:
      UserError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all. Raises a UserError as `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_file(path: str | os.PathLike, largest: int = _LARGEST_TEXT) -> bytes:
    """Return a file's bytes.

    Raises:
      OSError: it cannot be read, is no regular file (a pipe would be waited for), or is larger than
        `largest` bytes.
    """
    # Opened first, and asked then: what stands there may change between two calls.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable(path, "it is no file")
        if found.st_size > largest:
            raise Unreadable(path, f"it has more than {largest:,} bytes")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def read_text(path: str | os.PathLike, largest: int = _LARGEST_TEXT) -> str:
    """Return a file's UTF-8 text, without the mark that some editors put first.

    Raises:
      OSError: as `read_file`.
      ValueError: it is not UTF-8.
    """
    return read_file(path, largest).decode("utf-8-sig")


def parse_json(text: str | bytes, kind: type | tuple[type, ...] = dict) -> Any:
    """Return the value that a JSON text describes.

    Raises:
      ValueError: it is no JSON, holds another kind of value, or is nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, kind):
        raise ValueError(f"it holds a {type(found).__name__}")
    return found


def read_json(path: str | os.PathLike, kind: type | tuple[type, ...] = dict) -> Any:
    """Return the value in a JSON file.

    Raises:
      OSError: as `read_file`.
      ValueError: as `parse_json`, or it is not UTF-8.
    """
    return parse_json(read_text(path), kind)


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the lines {"step": whole number, name: number, ...} of a metrics.jsonl.

    A line that is none is left out, as a crash may cut the last one off, and so is a value that is
    no number. [] where there is no file.
    """
    try:
        lines = read_file(path).decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):
            row = parse_json(line)
            numbers = {name: value for name, value in row.items() if is_number(value)}
            if type(numbers.get("step")) is int:
                rows.append(numbers)
    return rows


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number that a float can hold; True and False are none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < sys.float_info.max


def read_image(
    path: str | os.PathLike, mode: str = "RGBA"
) -> UInt8[np.ndarray, "height width channels"]:
    """Return a picture's pixels, converted to a mode of Pillow ("RGB", "RGBA").

    Raises:
      OSError: it cannot be read or is no picture.
      ValueError: it has more than 67 million pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        try:
            with PIL.Image.open(io.BytesIO(read_file(path))) as image:
                if image.width * image.height > _LARGEST_IMAGE:
                    raise ValueError(f"it has {image.width} x {image.height} pixels")
                return np.asarray(image.convert(mode))
        except PIL.Image.DecompressionBombError as error:
            raise ValueError("it has too many pixels") from error
        except PIL.UnidentifiedImageError as error:
            raise Unreadable(path, "it is no picture") from error
        except (SyntaxError, EOFError, IndexError, OverflowError, struct.error) as error:
            raise Unreadable(path, f"it is damaged ({error})") from error
