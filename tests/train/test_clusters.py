import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.parallel import cluster_is_visible, join_hosts

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
        ({"SLURM_NTASKS": "4"}, False),  # a shell of salloc, not a task of srun
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
        join_hosts(*arguments)
