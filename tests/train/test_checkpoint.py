"""Checkpoints tell when what is read is not what was written."""

import contextlib
import errno
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train import checkpoint
from dreamfusion_jax.train.checkpoint import Checkpoints

RNG = np.random.default_rng(0)
ITEMS = {"params": {"table": RNG.normal(size=(40, 40)).astype(np.float32), "count": np.int32(3)}}


@pytest.fixture
def checkpoints(tmp_path):
    with contextlib.closing(Checkpoints(tmp_path)) as found:
        for step in (4, 8):
            found.save(step, ITEMS)
        yield found


def test_a_flipped_bit_is_never_loaded(checkpoints, tmp_path):
    """Wherever it is: the checkpoint is refused, or its numbers are those that were written."""
    files = [p for p in (tmp_path / "8" / "params").rglob("*") if p.is_file() and p.stat().st_size]
    refused = 0
    for file in files:
        whole = file.read_bytes()
        for place in RNG.integers(0, len(whole), 12):
            changed = bytearray(whole)
            changed[place] ^= 1 << int(RNG.integers(8))
            file.write_bytes(changed)
            try:
                found = checkpoints.restore(ITEMS, 8)
                np.testing.assert_array_equal(found["params"]["table"], ITEMS["params"]["table"])
                assert found["params"]["count"] == 3
            except UserError as error:
                refused += 1
                assert "damaged" in str(error) or "cannot be read" in str(error)
        file.write_bytes(whole)
    assert refused > len(files)


def test_changed_numbers_are_named_and_the_step_before_is_offered(checkpoints, monkeypatch):
    whole = checkpoints._manager.restore

    def changed(*arguments, **settings):
        restored = whole(*arguments, **settings)
        if "params" in restored:
            restored["params"]["table"] = restored["params"]["table"] + 1e-7
        return restored

    monkeypatch.setattr(checkpoints._manager, "restore", changed)
    with pytest.raises(UserError, match=r"numbers of params\['table'\].*go on from step 4"):
        checkpoints.restore(ITEMS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"checksums": {}, "format": 1}'])
def test_what_says_how_to_read_it_must_be_whole(checkpoints, tmp_path, text):
    (file,) = [path for path in (tmp_path / "8" / "about").iterdir() if "metadata" in path.name]
    file.write_text(text)
    with pytest.raises(UserError, match="8 (is damaged|cannot be read|has no parameters)"):
        checkpoints.restore(ITEMS)
    assert checkpoints.restore(ITEMS, 4)["params"]["count"] == 3


def test_a_checkpoint_of_another_format_is_told(checkpoints, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    checkpoints.save(12, ITEMS)
    monkeypatch.undo()
    with pytest.raises(UserError, match="12 .*format 2.*use the version that wrote it"):
        checkpoints.restore(ITEMS)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (ValueError("no such key"), "see to that"),
    ],
)
def test_only_a_full_disk_is_called_one(checkpoints, monkeypatch, error, message):

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(checkpoints._manager, "save", fails)
    with pytest.raises(UserError, match=message):
        checkpoints.save(12, ITEMS)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(checkpoints, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6_000))
    with pytest.raises(UserError, match=r"step 12 needs 0.0 MB, and 0.0 MB are free"):
        checkpoints.save(12, ITEMS)
    assert checkpoints.all_steps() == [4, 8]


_FULL = """
import resource, signal, sys
import numpy as np
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train import checkpoint
from dreamfusion_jax.train.checkpoint import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    items = {name: np.random.default_rng(0).normal(size=(300, 300)) for name in "abcdef"}
    Checkpoints(sys.argv[1]).save(4, {"params": items})
except UserError as error:
    print(error)
"""


def test_a_disk_that_fills_up_is_one_sentence(tmp_path):
    """Nothing is printed by the threads that write."""
    command = [sys.executable, "-c", _FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "checkpoint of step 4 could not be written" in done.stdout
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
