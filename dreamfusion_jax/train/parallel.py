"""Devices: the only file that knows pmap, meshes and hosts."""

import contextlib
import functools
import os
import pickle
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.stage import AXIS, Stage
from dreamfusion_jax.train.step import train_step

T = TypeVar("T")


def use_cpu_cores(views: int) -> None:
    """Make the CPU, where it is what runs, as many devices as cores and views allow.

    XLA hardly spreads the small operations of a NeRF over cores; views side by side it
    does. Has no effect once JAX has started, nor on accelerators, nor where processes are
    joined (there each is one device), nor where JAX_NUM_CPU_DEVICES says how many.
    """
    if jax.distributed.is_initialized() or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    usable = max(n for n in range(1, cores + 1) if max(views, 1) % n == 0)
    with contextlib.suppress(RuntimeError):  # JAX has started: it stays as it is
        jax.config.update("jax_num_cpu_devices", usable)


def check_devices() -> None:
    """Start JAX's devices.

    Raises:
      UserError: there are none of the kind that JAX_PLATFORMS asks for.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        wanted = jax.config.values["jax_platforms"]
        if not wanted:
            raise
        raise UserError(
            f"JAX_PLATFORMS is {wanted!r}, and JAX finds no such device here "
            f"({str(error).splitlines()[0]}); unset it, or install JAX for that device."
        ) from error


def device_count(views: int = 0) -> int:
    """How many devices share the views of a step: all, over all hosts.

    Those of a CPU are only a way to use its cores. Of them it is as many as can share so many views
    evenly, so that a run does not depend on how many another one in this process has asked for.
    """
    if not views or jax.default_backend() != "cpu" or multi_host():
        return jax.device_count()
    return max(n for n in range(1, jax.device_count() + 1) if views % n == 0)


def replicate(tree: Any, count: int = 0) -> Any:
    """Put a copy of every array on each local device, without a leading device axis.

    Only on the first `count` of them, where this is the only host and that is not 0.
    """
    devices = jax.local_devices()
    if count and not multi_host():
        devices = devices[:count]
    mesh = Mesh(np.array(devices), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def compile_steps(stage: Stage, num_steps: int) -> Callable:
    """Return one program that runs `num_steps` steps on the devices of the stage.

    Returns:
      A function (state, prior_params, embeddings, own_cameras, seed_keys) -> (state, metrics), with
      metrics stacked over the steps. The state is donated; everything else is not.
    """
    devices = jax.devices()[: stage.devices]
    program = steps_program(stage, num_steps, None if multi_host() else devices)
    here = jax.process_index()
    own = [i for i, device in enumerate(devices) if device.process_index == here]
    indices = jnp.array(own, jnp.int32)
    return functools.partial(_call, program, indices)


def steps_program(stage: Stage, num_steps: int, devices: Sequence[jax.Device] | None = None):
    """Return the pmapped function of `compile_steps`; its last argument is the device's index.

    `devices` may be those of a machine that is not here, to compile for it.
    """

    def many_steps(state, *frozen_and_index):
        def body(state, _):
            return train_step(stage, state, *frozen_and_index)

        return jax.lax.scan(body, state, None, length=num_steps)

    return jax.pmap(
        many_steps,
        AXIS,
        in_axes=(None, None, None, None, None, 0),
        out_axes=None,
        donate_argnums=0,
        devices=devices,
    )


def _call(program, indices, state, *frozen):
    return program(state, *frozen, indices)


def initialize_distributed(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    timeout: int = 300,
) -> None:
    """Connect this process with those of the other hosts; must come before JAX is used.

    Under Slurm and Open MPI a process that is alone on its node has all GPUs of the node; of
    several each has one.

    Args:
      coordinator: HOST:PORT of process 0. None lets JAX find everything itself, on TPU pods
        and under Slurm, Open MPI or Kubernetes.
      processes: how many there are.
      process: which this one is, from 0.
      timeout: seconds to wait for the others. JAX aborts with a stack trace where they do
        not come; this ends the process with a sentence and exit code 2 before.

    Raises:
      UserError: the arguments make no sense, or there is nothing to be found.
    """
    if coordinator is None:
        target = "the other hosts that the cluster names"
    else:
        _check_address(coordinator, processes, process)
        target = f"the coordinator {coordinator}, or not all {processes} processes came"
    # A process that aborts runs no handler, so a thread speaks up first.
    watchdog = threading.Timer(timeout, _give_up, [f"cannot reach {target} within {timeout} s"])
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=timeout + 60
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"The hosts cannot be joined ({str(error).splitlines()[0]}); name them with "
            "--coordinator=HOST:PORT --processes=N --process=I, or leave --distributed away."
        ) from error
    finally:
        watchdog.cancel()
    if coordinator is None and _alone_on_its_node():
        # JAX gives every process of such a cluster one GPU, whatever is there for it.
        for option in ("jax_cuda_visible_devices", "jax_rocm_visible_devices"):
            jax.config.update(option, os.environ.get(option.upper(), "all"))


def _alone_on_its_node() -> bool:
    """Return whether Slurm or Open MPI has started this process alone on its node."""
    slurm = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")  # such as 1(x4), or 8(x2),4
    stages = {part.partition("(")[0] for part in slurm.split(",")}
    return stages == {"1"} or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"


def shutdown_distributed() -> None:
    """Wait until all hosts are done. Afterwards nothing more can be done together."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def cluster_is_visible() -> bool:
    """Return whether the environment says that this process is one of several that belong together.

    Looks at Slurm, Open MPI and the list of workers that multi-host TPUs are given.
    """
    several = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
    ranked = "SLURM_PROCID" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ
    counts = [os.environ.get(name, "1") for name in several]
    # Where libtpu finds no TPU, JAX puts a warning into this variable.
    workers = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    pod = "," in workers and not workers.startswith("WARNING")
    return pod or (ranked and any(count not in ("", "1") for count in counts))


def _check_address(coordinator: str, processes: int | None, process: int | None) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--coordinator is {coordinator!r}; write HOST:PORT, like 10.0.0.2:8476.")
    if processes is None or process is None or not 0 <= process < processes:
        raise UserError(
            f"--coordinator needs --processes=N and --process=I with 0 <= I < N, not {process} "
            f"of {processes}."
        )


def _give_up(what: str) -> None:
    print(
        f"dreamfusion: {what}; check the address, the firewall and that every host runs.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def is_primary() -> bool:
    """Return whether this process is the one that writes files and reports."""
    return jax.process_index() == 0


def multi_host() -> bool:
    """Return whether other processes take part."""
    return jax.process_count() > 1


def on_primary(function: Callable[[], T]) -> T | None:
    """Call a function on the first host only; all hosts must call this together.

    Returns:
      Its result, None on the other hosts.

    Raises:
      UserError: on all hosts, if the function raised anything on the first.
    """
    if jax.process_count() == 1:
        return function()
    result, problem = _try(function) if is_primary() else (None, "")
    problem = _broadcast_bytes(problem.encode()).decode()
    if problem:
        raise UserError(problem)
    return result


def tree_of_primary(function: Callable[[], T]) -> T:
    """Call a function on the first host only and give its tree of arrays to all.

    All hosts must call this together; the others need not know shapes, types or structure.

    Raises:
      UserError: on all hosts, if the function raised anything on the first.
    """
    tree: Any = on_primary(function)
    if jax.process_count() == 1:
        return tree
    data = pickle.dumps(jax.tree.map(np.asarray, tree)) if is_primary() else b""
    return jax.tree.map(jnp.asarray, pickle.loads(_broadcast_bytes(data)))


def on_every_host(function: Callable[[], T]) -> T:
    """Call a function on every host; all hosts must call this together.

    Raises:
      UserError: on all hosts, if the function raised anything on any of them.
    """
    if not jax.distributed.is_initialized():
        return function()
    result: Any
    result, problem = _try(function)
    if any_host(bool(problem)):
        raise UserError(problem or "Another host cannot go on: see its messages.")
    return result


def _try(function: Callable[[], T]) -> tuple[T | None, str]:
    """Return the result, or what went wrong: the other hosts wait to be told."""
    try:
        return function(), ""
    except UserError as error:
        return None, str(error)
    except Exception as error:
        traceback.print_exc()
        return None, f"host {jax.process_index()} failed with {error!r}"


def broadcast(tree: Any) -> Any:
    """Return the first host's arrays, on all hosts; elsewhere only shapes and types count."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def any_host(flag: bool) -> bool:
    """Return whether the flag is set on any host; all hosts must call this together."""
    return bool(max_over_hosts(int(flag)))


def max_over_hosts(value: int) -> int:
    """Return the largest of the hosts' values; all hosts must call this together."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def check_hosts_agree(find_facts: Callable[[], Mapping[str, str]]) -> None:
    """Compare texts (the config, versions) over all hosts, where there are several.

    Raises:
      UserError: on every host, with the names of what differs and the hosts it differs on.
    """
    if jax.process_count() == 1:
        return
    facts = find_facts()
    mine = np.array([zlib.crc32(text.encode()) for text in facts.values()], np.uint32)
    everyone = np.asarray(multihost_utils.process_allgather(mine))
    for name, column in zip(facts, everyone.T, strict=True):
        different = np.flatnonzero(column != column[0]).tolist()
        if different:
            raise UserError(
                f"The hosts do not agree on the {name}: {_listed(different)} from host 0; give "
                "every host the same command, and install the same versions on all."
            )


def _listed(hosts: list[int]) -> str:
    if len(hosts) == 1:
        return f"host {hosts[0]} differs"
    return f"hosts {', '.join(map(str, hosts))} differ"


def _broadcast_bytes(data: bytes) -> bytes:
    """Return the first host's bytes, on all hosts; what the others give does not count."""
    size = int(broadcast(np.int32(len(data))))
    buffer = np.zeros(size, np.uint8)
    if is_primary():
        buffer[:] = np.frombuffer(data, np.uint8)
    return bytes(broadcast(buffer))
