"""Encoded prompts on disk, so that a large text encoder is not read again for the same text."""

import contextlib
import hashlib
import logging
import os
from pathlib import Path

import jax
import numpy as np
import safetensors
import safetensors.flax

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import cache_folder, write_bytes

_LOG = logging.getLogger(__name__)


def _digest(states: jax.Array) -> str:
    about = f"{states.dtype} {states.shape} ".encode()
    return hashlib.blake2b(about + np.asarray(states).tobytes(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Return a whole file's digest, remembered in the cache folder by its path, size and time."""
    place, found = str(path.absolute()), path.stat()
    key = hashlib.sha256(place.encode()).hexdigest()
    memory = cache_folder() / "digests" / key
    known = f"{found.st_size} {found.st_mtime_ns} "
    with contextlib.suppress(OSError, ValueError):
        remembered = memory.read_text()
        if remembered.startswith(known):
            return remembered.removeprefix(known)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    with contextlib.suppress(UserError):  # a folder that cannot be written is as good as an empty
        write_bytes(memory, (known + digest).encode())
    return digest


class EmbeddingCache:
    """The states of texts, one file each, of one model.

    `model` tells models apart: whatever their states depend on. A folder that cannot be
    written is as good as an empty one.
    """

    def __init__(self, model: str, folder: Path | None = None):
        self._folder = (folder or cache_folder()) / "embeddings" / model

    def get(self, text: str) -> jax.Array | None:
        """Return the states [tokens, width] of a text, or None; also where the file is damaged."""
        try:
            with safetensors.safe_open(str(self._path(text)), "flax") as file:
                states, about = file.get_tensor("states"), file.metadata() or {}
        except (OSError, KeyError, ValueError, safetensors.SafetensorError):
            return None
        return states if about.get("digest") == _digest(states) else None

    def put(self, text: str, states: jax.Array) -> None:
        """Keep the states [tokens, width] of a text."""
        path = self._path(text)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            about = {"digest": _digest(states)}
            safetensors.flax.save_file({"states": states}, str(partial), about)
            os.replace(partial, path)
        except (OSError, safetensors.SafetensorError) as error:
            _LOG.warning("The encoded prompt cannot be kept in %s: %s", self._folder, error)

    def _path(self, text: str) -> Path:
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
