import os
import subprocess
import sys

import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.parallel import cluster_is_visible, initialize_distributed

NAMES = (
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "TPU_WORKER_HOSTNAMES",
)


@pytest.mark.parametrize(
    ("environment", "visible"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, False),
        ({"SLURM_NTASKS": "4"}, False),  # a shell of salloc, not a stage of srun
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, True),
        ({"TPU_WORKER_HOSTNAMES": "host-0,host-1"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "WARNING: could not determine names, or addresses"}, False),
    ],
)
def test_clusters_are_seen_in_the_environment(monkeypatch, environment, visible):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cluster_is_visible() == visible


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("10.0.0.2", 2, 0), "write HOST:PORT"),
        (("10.0.0.2:99", None, 0), "needs --processes=N"),
        (("10.0.0.2:99", 2, 2), "0 <= I < N"),
    ],
)
def test_addresses_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        initialize_distributed(*arguments)


VISIBLE = """
import jax
from dreamfusion_jax.train.parallel import initialize_distributed, shutdown_distributed
initialize_distributed()
print(jax.config.values["jax_cuda_visible_devices"])
shutdown_distributed()
"""


@pytest.mark.parametrize(("stages", "visible"), [("1(x2)", "all"), ("8(x2)", "0"), ("8,1", "0")])
def test_a_process_alone_on_its_node_has_all_of_its_gpus(stages, visible):
    """In a job step of one stage, with the variables of Slurm that JAX looks at."""
    slurm = {
        "SLURM_JOB_ID": str(os.getpid()),  # the coordinator's port is made of it
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_TASKS_PER_NODE": stages,
    }
    done = subprocess.run(
        [sys.executable, "-c", VISIBLE],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | slurm,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == visible
