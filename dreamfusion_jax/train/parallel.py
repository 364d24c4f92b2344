"""Devices: the only file that knows pmap, meshes and hosts."""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.step import AXIS, Task, train_step


def use_cpu_cores(views: int) -> None:
    """Makes the CPU, where it is what runs, as many devices as cores and views allow.

    XLA hardly spreads the small operations of a NeRF over cores; views side by side it
    does. Has no effect once JAX has started, nor on accelerators.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    usable = max(n for n in range(1, max(cores, 1) + 1) if max(views, 1) % n == 0)
    with contextlib.suppress(RuntimeError):  # JAX has started: it stays as it is
        jax.config.update("jax_num_cpu_devices", usable)


def device_count() -> int:
    """Devices over all hosts."""
    return jax.device_count()


def views_per_device(views: int) -> int:
    """Deals a step's views out to the devices.

    Raises:
      UserError: the views do not divide evenly.
    """
    devices = device_count()
    if views < 1 or views % devices:
        raise UserError(
            f"train.views is {views}, which {devices} devices cannot share evenly; "
            f"choose a multiple of {devices}."
        )
    return views // devices


def replicate(tree: Any) -> Any:
    """Puts a copy of every array on each local device, without a leading device axis."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def compile_steps(task: Task, num_steps: int) -> Callable:
    """One program that runs `num_steps` steps on all local devices.

    Returns:
      A function (state, prior_params, embeddings, seed_key) -> (state, metrics), with
      metrics stacked over the steps. The state is donated; everything else is not.
    """

    def many_steps(state, prior_params, embeddings, seed_key, device_index):
        def body(state, _):
            return train_step(task, state, prior_params, embeddings, seed_key, device_index)

        return jax.lax.scan(body, state, None, length=num_steps)

    mapped = jax.pmap(
        many_steps, AXIS, in_axes=(None, None, None, None, 0), out_axes=None, donate_argnums=0
    )
    local = [d.id for d in jax.local_devices()]
    order = {d.id: i for i, d in enumerate(jax.devices())}
    indices = jnp.array([order[i] for i in local], jnp.int32)
    return functools.partial(_call, mapped, indices)


def _call(mapped, indices, state, prior_params, embeddings, seed_key):
    return mapped(state, prior_params, embeddings, seed_key, indices)
