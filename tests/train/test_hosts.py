"""Two processes on one machine that act as the hosts of a pod."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from dreamfusion_jax.train.checkpoint import restore_run
from dreamfusion_jax.train.metrics import read_metrics

pytestmark = pytest.mark.slow

SETTINGS = {
    "train.image_size": 8,
    "train.steps_per_call": 5,
    "train.checkpoint_every": 10,
    "train.preview_every": 20,
    "stages.surface.train.image_size": 16,
    "stages.surface.scene.cells": 8,
    "scene.field.cells": 16,
    "scene.sampler.cells": 16,
    "scene.sampler.coarse_samples": 8,
    "scene.sampler.fine_samples": 8,
    "export.turntable_frames": 2,
    "export.turntable_size": 16,
    "export.mesh_resolution": 16,
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Hosts:
    """`dreamfusion generate` on two hosts, which share no folder."""

    def __init__(self, folder, steps=60, steps_of_the_second=None):
        port = free_port()
        self.folder = folder
        counts = (steps, steps_of_the_second or steps)
        self.processes = [
            subprocess.Popen(
                [
                    *command(folder / str(i), counts[i]),
                    f"--coordinator=127.0.0.1:{port}",
                    "--processes=2",
                    f"--process={i}",
                    "--connect-timeout=60",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]

    def wait_for_step(self, step: int) -> None:
        deadline = time.time() + 200
        while not (self.folder / "0" / "checkpoints" / str(step)).is_dir():
            assert time.time() < deadline and self.processes[0].poll() is None
            time.sleep(0.05)

    def finish(self) -> list[tuple[int, str]]:
        """Exit code and messages of each."""
        try:
            outputs = [process.communicate(timeout=240) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [(p.returncode, o[1]) for p, o in zip(self.processes, outputs, strict=True)]


def command(workdir, steps: int) -> list[str]:
    return [sys.executable, "-m", "dreamfusion_jax.cli", *arguments(workdir, steps)]


def arguments(workdir, steps: int) -> list[str]:
    settings = SETTINGS | {"train.steps": steps}
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["generate", "a teddy bear", f"--workdir={workdir}", *flags]


def leaves(workdir) -> list[np.ndarray]:
    return jax.tree.leaves(restore_run(workdir).params)


def test_hosts_are_killed_or_preempted_and_go_on(tmp_path):
    whole = Hosts(tmp_path / "whole")
    assert [code for code, _ in whole.finish()] == [0, 0]
    assert not (tmp_path / "whole" / "1").exists()  # one host writes
    assert (tmp_path / "whole" / "0" / "report.html").is_file()

    hosts = Hosts(tmp_path / "broken")
    hosts.wait_for_step(10)
    hosts.processes[1].send_signal(signal.SIGTERM)  # one host is told, both stop
    for code, messages in hosts.finish():
        assert code == 0 and "saved; repeat the command to go on" in messages
    fewer = shutil.copytree(tmp_path / "broken" / "0", tmp_path / "fewer")

    hosts = Hosts(tmp_path / "broken")
    hosts.wait_for_step(30)
    hosts.processes[1].kill()
    hosts.processes[0].kill()  # it would wait for the other
    hosts.finish()
    assert not (tmp_path / "broken" / "0" / "mesh.glb").exists()

    assert [code for code, _ in Hosts(tmp_path / "broken").finish()] == [0, 0]
    for a, b in zip(leaves(tmp_path / "whole/0"), leaves(tmp_path / "broken/0"), strict=True):
        np.testing.assert_array_equal(a, b)
    rows = [read_metrics(tmp_path / name / "0") for name in ("whole", "broken")]
    assert [r["sds_residual"] for r in rows[0]] == [r["sds_residual"] for r in rows[1]]
    goes_on_with_fewer_devices(fewer, rows[0])


def goes_on_with_fewer_devices(workdir, expected):
    """One device draws the same global views as two: the same residuals, but for rounding."""
    before = len(read_metrics(workdir))
    process = subprocess.Popen(
        command(workdir, 60),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
    )
    deadline = time.time() + 200
    while len(read_metrics(workdir)) < before + 3:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    rows = read_metrics(workdir)[before : before + 3]
    for row, other in zip(rows, expected[before:], strict=False):
        assert row["step"] == other["step"]
        assert row["sds_residual"] == pytest.approx(other["sds_residual"], rel=2e-3)


def test_hosts_that_disagree_are_told(tmp_path):
    for code, messages in Hosts(tmp_path, steps=40, steps_of_the_second=60).finish():
        assert code == 2
        assert "do not agree on the config: host 1 differs from host 0" in messages
    assert not list(tmp_path.iterdir())


def test_a_coordinator_that_is_not_there(tmp_path):
    flags = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", "--connect-timeout=3"]
    done = subprocess.run(
        [*command(tmp_path / "run", 40), *flags, "--process=1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "cannot reach the coordinator" in done.stderr and "within 3 s" in done.stderr


ENCODES = """
import sys
import jax, jax.numpy as jnp, numpy as np
from dreamfusion_jax.train.parallel import (
    tree_of_primary,
    initialize_distributed,
    shutdown_distributed,
)
process = int(sys.argv[2])
initialize_distributed(f"127.0.0.1:{sys.argv[1]}", 2, process)
def encode():
    assert process == 0
    states = jax.random.normal(jax.random.key(0), (3, 5, 7), jnp.bfloat16)
    return {"states": states, "mask": np.eye(3, 5, dtype=bool)}
arrays = tree_of_primary(encode)
print({k: (v.shape, str(v.dtype), np.asarray(v).tobytes().hex()) for k, v in arrays.items()})
shutdown_distributed()
"""


def test_arrays_of_the_first_host_reach_the_second_bit_for_bit():
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ENCODES, str(port), str(i)], stdout=subprocess.PIPE, text=True
        )
        for i in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0].splitlines()[-1] for process in processes)
    assert first == second and "'bfloat16'" in first and "'bool'" in first
