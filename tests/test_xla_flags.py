"""The setting of XLA that is made on import."""

import importlib.metadata
import os

from dreamfusion_jax import xla_flags


def flags_after(monkeypatch, before: str, release: str, plugins: bool) -> str:
    monkeypatch.setenv("XLA_FLAGS", before)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: release)
    found = object() if plugins else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    xla_flags.prefer_fast_convolutions()
    return os.environ["XLA_FLAGS"]


def test_only_where_it_is_known_and_helps(monkeypatch):
    chosen = flags_after(monkeypatch, "--a=1", "0.10.2", plugins=False)
    assert chosen.startswith("--a=1 --xla_cpu") and chosen.endswith("_DOT")
    assert flags_after(monkeypatch, chosen, "0.10.2", plugins=False) == chosen
    assert flags_after(monkeypatch, "--a=1", "0.10.2", plugins=True) == "--a=1"
    for release in ("0.8.3", "0.12.0", "1.0", "unknown"):
        assert flags_after(monkeypatch, "--a=1", release, plugins=False) == "--a=1"
