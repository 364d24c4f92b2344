"""Settings of XLA that must be made before JAX starts."""

import importlib.metadata
import importlib.util
import os

import jax

_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type"
_PRODUCTS_ALONE = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# The releases of jaxlib that are known to have the flag: XLA ends the process at an unknown one.
_KNOWN = ((0, 9), (0, 12))


def prefer_fast_convolutions() -> None:
    """Make XLA compute convolutions on CPUs with Eigen instead of YNNPACK.

    Those of 16 to 64 pixels squared and hundreds of channels are then 1.2 to 1.7 times as fast.
    Products of matrices stay with YNNPACK: Eigen's sums are less exact, which Shampoo's roots
    of nearly singular matrices show. Does nothing where an accelerator's plugin
    is installed (it would read the flags too), where XLA_FLAGS already names YNNPACK, in another
    release of JAX, or once JAX has started: it reads XLA_FLAGS only then, but names the programs
    that it keeps by them later too.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    plugins = any(importlib.util.find_spec(name) for name in ("libtpu", "jax_plugins"))
    if plugins or _YNNPACK in flags or not _KNOWN[0] <= _jaxlib_release() < _KNOWN[1]:
        return
    if _has_started():
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_YNNPACK}={_PRODUCTS_ALONE}".strip()


def _jaxlib_release() -> tuple[int, int]:
    try:
        major, minor = importlib.metadata.version("jaxlib").split(".")[:2]
        return int(major), int(minor)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0, 0


def _has_started() -> bool:
    """Return whether JAX has its devices: after that it takes no other number of them."""
    devices = jax.config.values["jax_num_cpu_devices"]
    try:
        jax.config.update("jax_num_cpu_devices", devices + 2)  # never 0
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        return True
    return False
