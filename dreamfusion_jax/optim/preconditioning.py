"""Shampoo's statistics and preconditioners, stacked by size; roots on one device or on many."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamfusion_jax.optim.blocks import Layout, Shape
from dreamfusion_jax.optim.grafting import decayed_sum
from dreamfusion_jax.optim.inverse_root import Scalar, inverse_pth_root, matmul

MAX_ROOT_ERROR = 0.1  # from here on, or at NaN, a root counts as failed

Stacks = tuple[jax.Array, ...]  # f32[k, n, n], one for each size n, in the order of Layout.slots


def identity_stacks(layout: Layout, scale: Scalar) -> Stacks:
    """scale * I for every statistic."""
    return tuple(
        jnp.tile((scale * jnp.eye(n)).astype(jnp.float32), (len(ranks), 1, 1))
        for n, ranks in layout.ranks().items()
    )


def accumulate(
    layout: Layout, statistics: Stacks, blocks: dict[Shape, jax.Array], beta2: Scalar
) -> Stacks:
    """L_a <- beta2 L_a + (1 - beta2) G_a G_a^T for every block and axis."""

    def gram(shape: Shape, axis: int) -> jax.Array:
        rows = (layout.num_blocks(shape), shape[axis], -1)
        unfolded = jnp.moveaxis(blocks[shape], 1 + axis, 1).reshape(rows)
        return matmul(unfolded, unfolded.mT)

    grams = [jnp.concatenate([gram(*slot) for slot in slots]) for slots in layout.slots().values()]
    return tuple(decayed_sum(*pair, beta2) for pair in zip(statistics, grams, strict=True))


def precondition(
    layout: Layout, preconditioners: Stacks, blocks: dict[Shape, jax.Array]
) -> dict[Shape, jax.Array]:
    """Return every block multiplied by its P_a along each axis a."""
    factors: dict[Any, Any] = {}
    for stack, slots in zip(preconditioners, layout.slots().values(), strict=True):
        ends = np.cumsum([layout.num_blocks(shape) for shape, _ in slots])[:-1]
        factors.update(zip(slots, jnp.split(stack, ends), strict=True))

    def multiply(shape: Shape, block: jax.Array) -> jax.Array:
        # Contracts the first axis and appends the result: after all axes the order is restored.
        for axis in range(len(shape)):
            block = jnp.einsum(
                "bi...,bij->b...j", block, factors[shape, axis], precision=jax.lax.Precision.HIGHEST
            )
        return block

    return {shape: multiply(shape, block) for shape, block in blocks.items()}


def compute_roots(
    layout: Layout,
    statistics: Stacks,
    previous: Stacks,
    *,
    exponent_override: Scalar,
    epsilon: Scalar,
    axis_name: str | None,
) -> Stacks:
    """P_a = (L_a + ridge)^(-1/p), or the previous P_a where that fails.

    p is `exponent_override`, or twice the block's rank where that is 0. With `axis_name`
    every device of that mapped axis computes an equal share and gathers the others'; the
    roots are the same as without.

    All statistics are padded to the largest one of the tree with the identity, as in the
    reference. The root of a block-diagonal matrix is that of its blocks, but lambda_max of
    a padded one is at least 1: its ridge is epsilon max(lambda_max(L_a), 1).
    """
    if not statistics:
        return statistics
    lengths, sizes = [len(s) for s in statistics], [s.shape[-1] for s in statistics]
    exponents = _exponents(np.concatenate([*layout.ranks().values()]), exponent_override)
    work = _pad_and_stack(statistics), _pad_and_stack(previous), exponents, epsilon
    if axis_name is None or jax.lax.axis_size(axis_name) == 1:
        roots = _roots_by_exponent(*work)
    else:
        roots = _roots_over_devices(*work, axis_name)
    parts = jnp.split(roots, np.cumsum(lengths)[:-1])
    return tuple(part[:, :n, :n] for part, n in zip(parts, sizes, strict=True))


def _pad_and_stack(stacks: Stacks) -> jax.Array:
    """[k_i, n_i, n_i] ... -> [sum k_i, max n_i, max n_i], with ones on the padded diagonal."""
    largest = max(stack.shape[-1] for stack in stacks)

    def pad(stack: jax.Array) -> jax.Array:
        n = stack.shape[-1]
        margin = (0, largest - n)
        identity = jnp.diag((jnp.arange(largest) >= n).astype(stack.dtype))
        return jnp.pad(stack, ((0, 0), margin, margin)) + identity

    return jnp.concatenate([s if s.shape[-1] == largest else pad(s) for s in stacks])


def _exponents(ranks: np.ndarray, override: Scalar) -> np.ndarray | jax.Array:
    """p of each statistic: known numbers, unless the override is traced."""
    if isinstance(override, jax.core.Tracer):
        return jnp.where(override == 0, 2 * ranks, override)
    return np.where(int(override) == 0, 2 * ranks, int(override))


def _roots(
    statistics: jax.Array, previous: jax.Array, exponents: int | jax.Array, epsilon: Scalar
) -> jax.Array:
    """Return a stack of roots in one vmapped iteration; the exponent is one, or one for each."""
    axes = (0, None if isinstance(exponents, int) else 0, None)
    roots, errors = jax.vmap(inverse_pth_root, axes)(statistics, exponents, epsilon)
    return jnp.where((errors < MAX_ROOT_ERROR)[:, None, None], roots, previous)


def _roots_by_exponent(statistics, previous, exponents, epsilon) -> jax.Array:
    """Return one iteration for each exponent: a known power is cheaper than a traced one."""
    if isinstance(exponents, jax.Array):
        return _roots(statistics, previous, exponents, epsilon)
    roots = previous
    for p in sorted(set(exponents.tolist())):
        chosen = np.flatnonzero(exponents == p)
        if len(chosen) == len(exponents):
            return _roots(statistics, previous, p, epsilon)
        roots = roots.at[chosen].set(_roots(statistics[chosen], previous[chosen], p, epsilon))
    return roots


def _roots_over_devices(statistics, previous, exponents, epsilon, axis_name: str) -> jax.Array:
    """Return the roots of this device's share, and by one all-gather everybody else's.

    A last share that would be smaller repeats statistics from the front.
    """
    total = len(statistics)
    share = -(-total // jax.lax.axis_size(axis_name))
    mine = (jax.lax.axis_index(axis_name) * share + jnp.arange(share)) % total
    if isinstance(exponents, np.ndarray) and len(set(exponents.tolist())) == 1:
        p: int | jax.Array = int(exponents[0])
    else:
        p = jnp.asarray(exponents)[mine]
    roots = _roots(statistics[mine], previous[mine], p, epsilon)
    return jax.lax.all_gather(roots, axis_name, tiled=True)[:total]
