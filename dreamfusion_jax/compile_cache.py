"""Compiled programs on disk: the second run of a command does not compile again."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax

from dreamfusion_jax.io import cache_folder

MAX_BYTES = 2 * 1024**3  # what was used longest ago is removed first
_LEAST_SECONDS = 0.2  # what compiles faster is not worth a file


def keep_programs() -> None:
    """Make JAX keep compiled programs in the user's cache folder, at most MAX_BYTES of them.

    Several processes may use it at once: JAX locks it. What is damaged is compiled again. Does
    nothing where JAX already has such a folder (JAX_COMPILATION_CACHE_DIR), where the folder
    cannot be written, or where JAX_ENABLE_COMPILATION_CACHE is false.
    """
    values = jax.config.values
    if values["jax_compilation_cache_dir"] or not values["jax_enable_compilation_cache"]:
        return
    folder = cache_folder() / "programs" / _machine()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
            jax.config.update("jax_compilation_cache_dir", str(folder))


def _machine() -> str:
    """Return a name for machines that can run each other's programs: a CPU's use all it has."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:16]
    return hashlib.sha256(" ".join(platform.uname()[4:]).encode()).hexdigest()[:16]
