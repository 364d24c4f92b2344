"""The setting of XLA that is made before JAX starts, and not on import."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from dreamfusion_jax import xla_flags

_LOOK = "import json, os, sys, warnings\nbefore = dict(os.environ), list(warnings.filters)\n"
_SAY = "\nprint(json.dumps([sorted(set(os.environ.items()) ^ set(before[0].items())), {}]))"
_IMPORT = _LOOK + "import dreamfusion_jax"
_IMPORT += _SAY.format("warnings.filters == before[1] and 'jax' not in sys.modules")
_START = "from dreamfusion_jax.startup import prepare_jax\n"


def answer(program: str):
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    env = clean | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def flags_after(monkeypatch, before: str, release: str, plugins=False, started=False) -> str:
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: release)
    found = object() if plugins else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(xla_flags, "_has_started", lambda: started)
    xla_flags.prefer_fast_convolutions()
    return os.environ["XLA_FLAGS"]


def test_only_where_it_is_known_and_helps(monkeypatch):
    chosen = flags_after(monkeypatch, "--a=1", "0.10.2")
    assert chosen.startswith("--a=1 --xla_cpu") and chosen.endswith("_DOT")
    assert flags_after(monkeypatch, chosen, "0.10.2") == chosen
    assert flags_after(monkeypatch, "--a=1", "0.10.2", plugins=True) == "--a=1"
    assert flags_after(monkeypatch, "--a=1", "0.10.2", started=True) == "--a=1"
    for release in ("0.8.3", "0.12.0", "1.0", "unknown"):
        assert flags_after(monkeypatch, "--a=1", release) == "--a=1"


def test_the_import_changes_nothing():
    assert answer(_IMPORT) == [[], True]


@pytest.mark.slow
def test_it_is_made_before_jax_starts_and_never_after():
    first = _LOOK + _START + "prepare_jax()\nimport jax\njax.devices()" + _SAY.format("0")
    later = _LOOK + _START + "import jax\njax.devices()\nprepare_jax()" + _SAY.format("0")
    devices = "jax.config.jax_num_cpu_devices"
    told = f"import jax\n{_LOOK}{_START}was = {devices}\nprepare_jax()"
    assert answer(told + _SAY.format(f"{devices} == was"))[1]
    # Where an accelerator's plugin is installed nothing is ever set.
    names = [name for name, _ in answer(first)[0]]
    expected = importlib.util.find_spec("libtpu") or importlib.util.find_spec("jax_plugins")
    known = xla_flags._KNOWN[0] <= xla_flags._jaxlib_release() < xla_flags._KNOWN[1]
    assert names == (["XLA_FLAGS"] if known and not expected else [])
    assert answer(later)[0] == []
