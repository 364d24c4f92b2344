"""Encoded prompts on disk, so that a large text encoder is not read again for the same text."""

import hashlib
import logging
import os
from pathlib import Path

import jax
import safetensors
import safetensors.flax

_LOG = logging.getLogger(__name__)


def cache_folder() -> Path:
    """DREAMFUSION_CACHE, or dreamfusion_jax in the user's cache folder."""
    own = os.environ.get("DREAMFUSION_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "dreamfusion_jax"


class EmbeddingCache:
    """The states of texts, one file each, of one model.

    `model` tells models apart: whatever their states depend on. A folder that cannot be
    written is as good as an empty one.
    """

    def __init__(self, model: str, folder: Path | None = None):
        self._folder = (folder or cache_folder()) / "embeddings" / model

    def get(self, text: str) -> jax.Array | None:
        """The states [tokens, width] of a text, or None."""
        try:
            return safetensors.flax.load_file(str(self._path(text)))["states"]
        except (OSError, KeyError, safetensors.SafetensorError):
            return None

    def put(self, text: str, states: jax.Array) -> None:
        """Keeps the states [tokens, width] of a text."""
        path = self._path(text)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            safetensors.flax.save_file({"states": states}, str(partial))
            os.replace(partial, path)
        except (OSError, safetensors.SafetensorError) as error:
            _LOG.warning("The encoded prompt cannot be kept in %s: %s", self._folder, error)

    def _path(self, text: str) -> Path:
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
