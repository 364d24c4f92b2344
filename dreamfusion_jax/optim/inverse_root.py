"""Inverse p-th roots of positive semi-definite matrices by coupled Newton iteration.

Method: Higham, "Functions of Matrices", section 7.3 (coupled inverse Newton iteration), as
Distributed Shampoo uses it (Anil et al., arXiv 2002.09018).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Scalar = int | float | np.number | np.ndarray | jax.Array  # one number, perhaps traced

MAX_ITERATIONS = 100
TOLERANCE = 1e-6
MAX_ERROR_GROWTH = 1.2  # the error may rise a little before it converges
MIN_SCALE = 1e-6  # the ridge is relative to lambda_max, but never below epsilon times this


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a @ b without the low precision that accelerators use by default."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def max_eigenvalue(matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    """lambda_max of a symmetric PSD matrix by power iteration from a fixed start.

    Stops when the Rayleigh quotient moves by TOLERANCE or less: absolute, as MIN_SCALE
    makes smaller values irrelevant.
    """
    # The seed of the reference: where the two largest eigenvalues are close, 100 steps
    # leave a trace of the start.
    start = np.random.RandomState(1729).uniform(-1.0, 1.0, matrix.shape[-1])

    def unfinished(state):
        i, _, value, previous = state
        return (i < MAX_ITERATIONS) & (jnp.abs(value - previous) > TOLERANCE)

    def step(state):
        i, vector, value, _ = state
        vector = vector / jnp.linalg.norm(vector)
        image = matmul(matrix, vector)
        return i + 1, image, matmul(vector, image), value

    zero = jnp.zeros((), matrix.dtype)
    state = (0, jnp.asarray(start, matrix.dtype), zero, zero + jnp.inf)
    return jax.lax.while_loop(unfinished, step, state)[2]


def matrix_power(matrix: Float[Array, "n n"], p: int | Int[Array, ""]) -> Float[Array, "n n"]:
    """matrix^p for p >= 1 by repeated squaring; p may be a traced number."""
    if isinstance(p, int):
        half = matrix_power(matrix, p // 2) if p > 1 else None
        if half is None:
            return matrix
        return matmul(matmul(half, half), matrix) if p % 2 else matmul(half, half)

    def step(state):
        p, power, square = state
        power = jnp.where(p % 2 == 1, matmul(square, power), power)
        return p // 2, power, matmul(square, square)

    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return jax.lax.while_loop(lambda state: state[0] > 0, step, (p, identity, matrix))[1]


def inverse_pth_root(
    matrix: Float[Array, "n n"], p: int | Int[Array, ""], epsilon: Scalar
) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """(matrix + epsilon max(lambda_max, 1e-6) I)^(-1/p) and the iteration's final error.

    The error is max |M - I|, 0 for a perfect root; NaN or a large value mean failure.
    Under vmap, members that have converged stay as they are while the others go on.
    Computed in f64 where that is enabled, else in f32.
    """
    precise = matrix.astype(jnp.result_type(float))
    ridge = epsilon * jnp.maximum(max_eigenvalue(precise), MIN_SCALE)
    damped = precise + ridge.astype(precise.dtype) * jnp.eye(len(matrix), dtype=precise.dtype)
    root, error = _coupled_newton(damped, p)
    return root.astype(matrix.dtype), error.astype(jnp.float32)


def _coupled_newton(
    damped: Float[Array, "n n"], p: int | Int[Array, ""]
) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """Iterate M -> I and with it H -> damped^(-1/p); invariant M = H^p damped."""
    identity = jnp.eye(len(damped), dtype=damped.dtype)

    def distance(m):
        gaps = jnp.abs(m - identity)
        # A compiled max need not carry NaN on: XLA's CPU backend returns -inf for all-NaN.
        return jnp.where(jnp.isnan(gaps).any(), jnp.nan, jnp.max(gaps))

    def unfinished(state):
        i, _, _, error, grew = state
        return (i < MAX_ITERATIONS) & (error > TOLERANCE) & ~grew

    def step(state):
        i, m, h, error, _ = state
        # ((p + 1) I - M) / p. Near-singular matrices turn the last bit of it into 1e-3 of
        # the update, in f32: written like this, it is rounded as in the reference.
        alpha = -1 / p
        factor = (1 - alpha) * identity + alpha * m
        new_m = matmul(matrix_power(factor, p), m)
        new_h = matmul(h, factor)
        new_error = distance(new_m)
        # A NaN counts as growth; it is reported as the error, hence as a failure.
        grew = ~(new_error < MAX_ERROR_GROWTH * error)
        return i + 1, new_m, jnp.where(grew, h, new_h), new_error, grew

    # Scaled so that every eigenvalue of M lies in the region of convergence, (0, p + 1).
    scale = (1 + p) / (2 * jnp.linalg.norm(damped))
    m, h = damped * scale, identity * scale ** (1 / p)
    state = (0, m, h, distance(m), jnp.zeros((), bool))
    _, _, root, error, _ = jax.lax.while_loop(unfinished, step, state)
    return root, error
