"""Shampoo under pmap on four CPU devices, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import re
import jax, jax.numpy as jnp, numpy as np
from dreamfusion_jax.optim import shampoo

jax.config.update("jax_num_cpu_devices", 4)
shapes = {"kernel": (70, 60), "head": (60, 70), "bias": (60,), "scale": (70,)}
rng = np.random.default_rng(0)
gradients = [
    {name: rng.normal(size=(4, *shape)).astype(np.float32) for name, shape in shapes.items()}
    for _ in range(3)
]
params = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
settings = {"start_preconditioning_step": 1, "block_size": 64}
alone = shampoo(0.1, **settings)
spread = shampoo(0.1, batch_axis_name="batch", **settings)


def step(gradient, state):
    return spread.update(jax.lax.pmean(gradient, "batch"), state)


def optimizer_only(gradient, state, device):
    return spread.update(gradient, state)


def stacked(function):
    return jax.pmap(function, "batch", in_axes=(0, None), out_axes=0)


one, many = alone.init(params), spread.init(params)
update = jax.jit(alone.update)
for gradient in gradients:
    want, one = update({n: g.mean(0) for n, g in gradient.items()}, one)
    got, replicas = jax.block_until_ready(stacked(step)(gradient, many))
    for leaf in jax.tree.leaves((got, replicas)):
        for replica in np.asarray(leaf):
            np.testing.assert_array_equal(replica, leaf[0])  # bit for bit
    many = jax.tree.map(lambda leaf: np.asarray(leaf[0]), replicas)
    for name in shapes:
        error = np.linalg.norm(got[name][0] - want[name]) / np.linalg.norm(want[name])
        assert error <= 1e-3, (name, error)


def flops(devices):
    mapped = jax.pmap(optimizer_only, "batch", in_axes=(None, None, 0), out_axes=None,
                      devices=jax.devices()[:devices])
    compiled = mapped.lower(params, many, np.arange(devices)).compile()
    text = compiled.as_text()
    assert len(re.findall(r" all-gather(?:-start)?\\(", text)) == (devices > 1), text
    assert " all-reduce" not in text
    cost = compiled.cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


one, four = flops(1), flops(4)
print("flops", one, four, one / four)
assert one / four > 2  # the roots' own share falls to 3 of 11, the rest stays
print("done")
"""


@pytest.mark.slow
def test_four_devices_equal_one_and_share_the_roots():
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600
    )
    assert result.stdout.endswith("done\n"), result.stdout + result.stderr
