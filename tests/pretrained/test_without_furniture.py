"""The shipped objects are one folder: without it everything else works."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

SMALL = {
    "train.steps": 2,
    "train.steps_per_call": 2,
    "train.checkpoint_every": 2,
    "train.preview_every": 2,
    "train.batch_size": 1,
    "train.image_size": 8,
    "scene.field.cells": 8,
    "scene.field.levels": 1,
    "export.turntable_frames": 2,
    "export.turntable_size": 16,
    "export.mesh_resolution": 16,
}


# An editable installation finds the missing folder in the checkout: the copy must not see it.
ALONE = """import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
"""


@pytest.fixture
def program(tmp_path):
    """Runs a command with a copy of the package that has no furniture."""
    for folder in ("dreamfusion_jax", "configs"):
        unwanted = shutil.ignore_patterns("furniture", "__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=unwanted)
    (tmp_path / "sitecustomize.py").write_text(ALONE)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "dreamfusion_jax.cli", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )

    return run


@pytest.mark.slow
def test_a_published_model_makes_a_scene(program, if_folder, tmp_path):
    values = SMALL | {"prior.name": if_folder}
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    done = program("generate", "a chair", "--workdir=run", *flags)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    assert not (tmp_path / "dreamfusion_jax" / "furniture").exists()


@pytest.mark.slow
def test_what_is_gone_is_a_sentence(program):
    done = program("generate", "a chair")
    assert done.returncode == 2 and "no prior 'embedded'" in done.stderr, done.stderr
    done = program("evaluate", "--help")
    assert done.returncode == 0 and "--suite {clip,mesh}" in done.stdout
    done = program("evaluate", "run")
    assert done.returncode == 2 and "no suite 'furniture'; choose one of clip, mesh" in done.stderr
