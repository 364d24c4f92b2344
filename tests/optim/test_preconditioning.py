"""Statistics, their roots on one device and on several, and what a failed root does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.optim import preconditioning
from dreamfusion_jax.optim.blocks import Layout, Region, make_layout, to_blocks

SHAPES = [(5,), (70, 65), (3,)]  # block size 70: statistics of 3, 5, 65 and 70
LAYOUT = make_layout(SHAPES, 70)


def random_statistics(seed):
    rng = np.random.default_rng(seed)

    def stack(n, count):
        factors = rng.normal(size=(count, n, 2 * n))
        return (factors @ factors.transpose(0, 2, 1) / n).astype(np.float32)

    return tuple(stack(n, len(ranks)) for n, ranks in LAYOUT.ranks().items())


def roots(statistics, previous, axis_name=None, override=2):
    return preconditioning.compute_roots(
        LAYOUT, statistics, previous, exponent_override=override, epsilon=1e-6, axis_name=axis_name
    )


def test_accumulate_sums_unfolded_products():
    rng = np.random.default_rng(0)
    tensor = rng.normal(size=(60, 3, 70)).astype(np.float32)  # merged: [180, 70]
    layout = make_layout([tensor.shape], 200)
    old = preconditioning.identity_stacks(layout, 2.0)
    blocks = to_blocks(layout, [jnp.asarray(tensor)])
    columns, rows = preconditioning.accumulate(layout, old, blocks, 0.75)
    unfolded = tensor.reshape(180, 70).astype(np.float64)
    want = 0.75 * 2 * np.eye(180) + 0.25 * unfolded @ unfolded.T
    np.testing.assert_allclose(rows[0], want, atol=1e-4)
    want = 0.75 * 2 * np.eye(70) + 0.25 * unfolded.T @ unfolded
    np.testing.assert_allclose(columns[0], want, atol=1e-4)


def test_precondition_multiplies_along_every_axis():
    shape = (17, 16, 18)
    layout = Layout((shape,), {shape: [Region(0, (0, 0, 0), (1, 1, 1), shape)]})
    rng = np.random.default_rng(0)
    tensor = jnp.asarray(rng.normal(size=shape), jnp.float32)
    factors = tuple(jnp.asarray(rng.normal(size=(1, n, n)), jnp.float32) for n in (16, 17, 18))
    got = jax.jit(lambda p, t: preconditioning.precondition(layout, p, to_blocks(layout, [t])))(
        factors, tensor
    )
    want = np.einsum("abc,ai,bj,ck->ijk", tensor, factors[1][0], factors[0][0], factors[2][0])
    np.testing.assert_allclose(got[shape][0], want, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("override", [2, 0])
@pytest.mark.parametrize("devices", [2, 4])
def test_roots_spread_over_an_axis_equal_those_of_one_device(devices, override):
    statistics, previous = random_statistics(0), random_statistics(1)
    alone = jax.jit(lambda s, p: roots(s, p, override=override))(statistics, previous)
    spread = jax.vmap(
        lambda s, p: roots(s, p, "devices", override),
        in_axes=None,
        axis_name="devices",
        axis_size=devices,
    )
    for want, each in zip(alone, jax.jit(spread)(statistics, previous), strict=True):
        assert each.shape == (devices, *want.shape)
        for replica in each:
            np.testing.assert_array_equal(replica, each[0])
        np.testing.assert_allclose(each[0], want, rtol=1e-5, atol=1e-5)


def test_smaller_statistics_are_padded_with_the_identity():
    # lambda_max of a padded statistic is that of the padding where its own is below 1.
    statistics = tuple(1e-4 * s for s in random_statistics(0))
    got = jax.jit(roots)(statistics, statistics)
    for stack, matrices in zip(got, statistics, strict=True):
        n = stack.shape[-1]
        values, basis = np.linalg.eigh(matrices[0].astype(np.float64))
        scale = values[-1] if n == 70 else 1.0
        want = (basis * (values + 1e-6 * scale) ** -0.5) @ basis.T
        np.testing.assert_allclose(stack[0], want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


def test_a_failed_root_keeps_the_previous_preconditioner():
    statistics, previous = list(random_statistics(0)), random_statistics(1)
    statistics[1] = np.full_like(statistics[1], np.nan)
    got = jax.jit(roots)(tuple(statistics), previous)
    np.testing.assert_array_equal(got[1], previous[1])
    for i in (0, 2, 3):
        assert np.isfinite(got[i]).all()
        assert not np.allclose(got[i], previous[i], atol=0.1)
