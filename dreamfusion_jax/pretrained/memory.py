"""Whether a model fits into memory, before it is read."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dreamfusion_jax.errors import UserError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def parameter_bytes(shapes: Any, dtype: Any) -> int:
    """Return the size of a tree of parameters in that dtype."""
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    return count * jnp.dtype(dtype).itemsize


def free_bytes() -> int | None:
    """Return what the first device (this machine, where it is the CPU) can still take, if known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return _free_host_bytes()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def check_fits(name: str, needed: int) -> None:
    """Raise a UserError where a model of that many bytes does not fit."""
    free = free_bytes()
    if free is not None and needed > free:
        raise UserError(
            f"{name} takes {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB of memory are free; "
            "choose a smaller model, --config.prior.dtype=bfloat16, or a larger machine."
        )


def _free_host_bytes() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:  # a container may have less than the machine
        limit, used = (int((_CGROUP / f"memory.{n}").read_text()) for n in ("max", "current"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(stat["inactive_file"]))
    except (OSError, KeyError, ValueError):
        return free
