"""Devices: the only file that knows pmap, meshes and hosts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.step import AXIS, Task, train_step


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
