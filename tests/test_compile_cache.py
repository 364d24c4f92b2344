import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from dreamfusion_jax import compile_cache
compile_cache.keep_programs()
compile_cache.keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x).T)(jnp.ones((7, 7)))
print(sum(name == "/jax/compilation_cache/cache_hits" for name in hits))
print(jax.config.jax_compilation_cache_dir)
"""


def run(folder, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    env |= {"JAX_PLATFORMS": "cpu", "DREAMFUSION_CACHE": str(folder)} | variables
    command = [sys.executable, "-W", "error::UserWarning", "-c", PROGRAM]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    hits, where = done.stdout.split("\n")[:2]
    return int(hits), where


@pytest.mark.slow
def test_programs_are_kept_for_the_next_process(tmp_path):
    hits, where = run(tmp_path)
    assert hits == 0 and where.startswith(str(tmp_path / "programs"))
    assert run(tmp_path)[0] > 0
    # What another process has left half written is compiled again.
    for path in (tmp_path / "programs").rglob("*-cache"):
        path.write_bytes(path.read_bytes()[:50])
    command = [sys.executable, "-c", PROGRAM]
    env = os.environ | {"DREAMFUSION_CACHE": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": ""}
    assert subprocess.run(command, env=env, capture_output=True, timeout=120).returncode == 0


@pytest.mark.slow
def test_a_folder_of_ones_own_is_left_alone(tmp_path):
    own = tmp_path / "own"
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(own))[1] == str(own)
    assert run(tmp_path / "off", JAX_ENABLE_COMPILATION_CACHE="false")[1] == "None"
    assert not (tmp_path / "programs").exists() and not (tmp_path / "off").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file")[1] == "None"
