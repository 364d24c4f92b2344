"""A published model on two processes of one machine that act as hosts."""

import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from dreamfusion_jax.train.checkpoint import restore_run

SETTINGS = {
    "train.image_size": 8,
    "train.steps": 4,
    "stages.surface.begin": 1.0,  # a field to the end
    "train.steps_per_call": 2,
    "train.checkpoint_every": 4,
    "train.preview_every": 4,
    "prompt.view_words": "paper",
    "scene.field.cells": 8,
    "scene.field.levels": 2,
    "scene.sampler.cells": 8,
    "scene.sampler.coarse_samples": 8,
    "scene.sampler.fine_samples": 8,
    "export.turntable_frames": 2,
    "export.turntable_size": 16,
    "export.mesh_resolution": 16,
}


def start(folder, *flags: str, **environment: str) -> subprocess.Popen:
    """`dreamfusion generate` in a folder that holds a model as IF/, with a cache of its own."""
    settings = [f"--config.{key}={value}" for key, value in SETTINGS.items()]
    command = [sys.executable, "-m", "dreamfusion_jax.cli", "generate", "a chair"]
    own = {"DREAMFUSION_CACHE": str(folder / "cache")} | environment
    return subprocess.Popen(
        [*command, "--workdir=run", "--config.prior.name=IF", *settings, *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | own,
    )


def finish(*processes: subprocess.Popen) -> list[str]:
    """The messages of each, when all have ended."""
    try:
        outputs = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    messages = [out[1] for out in outputs]
    assert [process.returncode for process in processes] == [0] * len(processes), messages
    return messages


def two_hosts(folder) -> list[subprocess.Popen]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    flags = (f"--coordinator=127.0.0.1:{port}", "--processes=2", "--connect-timeout=60")
    return [start(folder / str(i), *flags, f"--process={i}") for i in range(2)]


@pytest.mark.slow
def test_one_host_encodes_for_all(if_folder, tmp_path):
    """The second has no weights of the text encoder, and the result is that of one process."""
    for name in ("alone", "0", "1"):
        shutil.copytree(if_folder, tmp_path / name / "IF")
    weights = list((tmp_path / "1" / "IF" / "text_encoder").glob("*.safetensors"))
    assert weights
    for path in weights:
        path.unlink()
    finish(*two_hosts(tmp_path))
    assert list((tmp_path / "0" / "cache" / "embeddings").rglob("*.safetensors"))
    assert not (tmp_path / "1" / "cache" / "embeddings").exists()

    finish(start(tmp_path / "alone", JAX_NUM_CPU_DEVICES="2"))
    params = [restore_run(tmp_path / name / "run").params for name in ("alone", "0")]
    for a, b in zip(*map(jax.tree.leaves, params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
