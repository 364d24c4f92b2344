"""Shapes in signatures are checked at run time while the tests run.

Compiled programs are kept, also for the processes that tests start: most of the suite's
time is compilation.
"""

import contextlib
import gc
import os
import pathlib
import resource
import sys

import pytest
from jaxtyping import install_import_hook

ROOT = pathlib.Path(__file__).parent.parent
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

sys.path.insert(0, str(pathlib.Path(__file__).parent))
# Before any module of the package is imported.
install_import_hook("dreamfusion_jax", "typechecker.check")

import jax  # noqa: E402

from dreamfusion_jax import registry  # noqa: E402
from dreamfusion_jax.xla_flags import prefer_fast_convolutions  # noqa: E402

prefer_fast_convolutions()  # as the command does: a test may start JAX before it calls that


_MANY_MAPS = 20_000  # of the 65,530 that Linux gives a process


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs():
    """Programs are forgotten now and then: each takes mappings of memory, which are limited.

    Without any left the compiler aborts the process.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def file_limit():
    """A context in which no file can grow beyond so many bytes, as on a full disk."""

    @contextlib.contextmanager
    def limit(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    for kind in registry._SHIPPED:
        registry.names(kind)  # which imports them: they are not to be forgotten
    parts = {kind: dict(named) for kind, named in registry._PARTS.items()}
    monkeypatch.setattr(registry, "_PARTS", parts)
