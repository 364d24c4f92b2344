"""The inverse root against an eigendecomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.optim.inverse_root import inverse_pth_root, matrix_power, max_eigenvalue


def spd(n, smallest=1e-2, seed=0):
    """A random symmetric matrix with eigenvalues from `smallest` to 1."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return (basis * np.geomspace(smallest, 1.0, n)) @ basis.T


def exact_root(matrix, p, epsilon):
    values, basis = np.linalg.eigh(matrix)
    return (basis * (values + epsilon * max(values[-1], 1e-6)) ** (-1 / p)) @ basis.T


@pytest.mark.parametrize("p", [1, 2, 4, 6])
def test_root_is_that_of_the_eigendecomposition(p):
    matrix = spd(12)
    root, error = jax.jit(inverse_pth_root, static_argnums=1)(jnp.float32(matrix), p, 1e-3)
    assert error <= 1e-5
    np.testing.assert_allclose(root, exact_root(matrix, p, 1e-3), atol=2e-4)


def test_small_matrices_get_the_smallest_ridge():
    root, _ = jax.jit(inverse_pth_root, static_argnums=1)(
        1e-9 * np.eye(3, dtype="f"), 2, 1e-2
    )  # ridge 1e-2 * 1e-6
    np.testing.assert_allclose(root, np.eye(3) * (1.1e-8) ** -0.5, rtol=1e-5)


def test_exponents_may_differ_within_a_batch():
    matrices = np.stack([spd(6, 1e-1), spd(6, 1e-2, seed=1), np.eye(6)])
    exponents = [2, 4, 3]
    batched = jax.jit(jax.vmap(inverse_pth_root, (0, 0, None)))
    roots = batched(jnp.float32(matrices), jnp.array(exponents), 1e-6)[0]
    for root, matrix, p in zip(roots, matrices, exponents, strict=True):
        np.testing.assert_allclose(root, exact_root(matrix, p, 1e-6), rtol=1e-4, atol=1e-4)


def test_converged_members_of_a_batch_stay_as_they_are():
    # The second one needs many more iterations; meanwhile the first must not move.
    easy, hard = jnp.float32(spd(6, 0.5)), jnp.float32(spd(6, 1e-6))
    batched = jax.jit(jax.vmap(inverse_pth_root, (0, None, None)), static_argnums=1)
    with_hard = batched(jnp.stack([easy, hard]), 2, 1e-6)[0][0]
    with_itself = batched(jnp.stack([easy, easy]), 2, 1e-6)[0][0]
    np.testing.assert_array_equal(with_hard, with_itself)


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_failure_shows_in_the_error(bad):
    matrix = np.diag(np.array([1.0, bad, 1.0], np.float32))
    _, error = jax.jit(inverse_pth_root, static_argnums=1)(matrix, 2, 1e-6)
    assert not error < 0.1


def test_max_eigenvalue_and_power():
    matrix = jnp.float32(spd(8))
    assert jax.jit(max_eigenvalue)(matrix) == pytest.approx(1.0, abs=1e-4)
    want = np.linalg.matrix_power(spd(8), 7)
    np.testing.assert_allclose(matrix_power(matrix, 7), want, atol=1e-5)
    np.testing.assert_allclose(matrix_power(matrix, jnp.int32(7)), want, atol=1e-5)


def test_uses_double_precision_where_enabled():
    matrix = spd(8, 1e-6)
    with jax.enable_x64(True):
        root, error = jax.jit(inverse_pth_root, static_argnums=1)(matrix, 2, 1e-9)
    np.testing.assert_allclose(root, exact_root(matrix, 2, 1e-9), rtol=1e-6, atol=1e-3)
    assert error <= 1e-6
