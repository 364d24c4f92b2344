import importlib.util
import pathlib

import pytest


@pytest.mark.slow
def test_damaged_files_are_read_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMFUSION_CACHE", str(tmp_path / "cache"))
    path = pathlib.Path(__file__).parent / "fuzz.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    counts = fuzz.fuzz(tmp_path, 0, lambda number: number < 300)
    assert not fuzz.failures(counts)
    assert all(sum(results.values()) for results in counts.values())
    assert sum(results["refused"] for results in counts.values()) > 50
