"""Linear interpolation in regular grids, in two ways with equal results.

Gathers suit CPUs and GPUs. Where gathers are slow, the same numbers are sums of products with hat
functions: matrix products, which is what a TPU is made for.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

CORNERS = tuple(itertools.product((0, 1), repeat=3))
_POINTS_PER_PRODUCT = 1024  # bounds the products' memory: points x rows x rows x channels


def grid_coordinates(
    points: Float[Array, "points 3"], radius: float, rows: int
) -> Float[Array, "points 3"]:
    """Return places in [0, rows - 1] of points in the cube [-radius, radius]^3, clipped to it."""
    places = (points + radius) * ((rows - 1) / (2 * radius))
    return jnp.clip(places, 0.0, rows - 1.0)


def gather_trilinear(
    grids: Sequence[Float[Array, "rows rows rows _"]], places: Float[Array, "points 3"]
) -> list[Float[Array, "points _"]]:
    """Interpolate grids at places (in rows): weighted sums of each place's eight corners."""
    rows = grids[0].shape[0]
    corner = jnp.clip(jnp.floor(places).astype(jnp.int32), 0, rows - 2)
    first = (corner[:, 0] * rows + corner[:, 1]) * rows + corner[:, 2]
    index = [first + ((x * rows + y) * rows + z) for x, y, z in CORNERS]
    weights = corner_weights(places - corner)
    # Behind the barrier XLA's CPU backend does not compute them again for every channel.
    index, weights = jax.lax.optimization_barrier((jnp.stack(index), jnp.stack(weights)))
    return [weighted_rows(grid.reshape(-1, grid.shape[-1]), index, weights) for grid in grids]


def corner_weights(upper: Float[Array, "points 3"]) -> list[Float[Array, "points"]]:
    """Return the weights of a cell's corners, in the order of CORNERS, at places in [0, 1]^3."""
    shares = [(1 - upper[:, axis], upper[:, axis]) for axis in range(3)]
    return [shares[0][x] * shares[1][y] * shares[2][z] for x, y, z in CORNERS]


@jax.custom_vjp
def weighted_rows(
    table: Float[Array, "rows channels"],
    index: Int[Array, "corners points"],
    weights: Float[Array, "corners points"],
) -> Float[Array, "points channels"]:
    """Return sum_k weights_k table[index_k]: gathers, and scatters into one table backwards."""
    # One gather a corner: with all in one XLA's CPU backend is several times slower.
    return materialized(
        sum(w[:, None] * _rows(table, i) for i, w in zip(index, weights, strict=True))
    )


def _rows(table: Array, index: Array) -> Array:
    return table.at[index].get(mode="promise_in_bounds")


def _weighted_rows_forward(table, index, weights):
    return weighted_rows(table, index, weights), (table, index, weights)


def _weighted_rows_backward(kept, gradient):
    table, index, weights = kept
    change = jnp.zeros_like(table)
    for i, w in zip(index, weights, strict=True):
        change = change.at[i].add(w[:, None] * gradient, mode="promise_in_bounds")
    # Left out by the compiler where nobody asks how the result depends on the place.
    by_weight = jnp.stack([jnp.sum(_rows(table, i) * gradient, -1) for i in index])
    return change, np.zeros(index.shape, jax.dtypes.float0), by_weight


weighted_rows.defvjp(_weighted_rows_forward, _weighted_rows_backward)


def product_trilinear(
    grids: Sequence[Float[Array, "rows rows rows _"]], places: Float[Array, "points 3"]
) -> list[Float[Array, "points _"]]:
    """Return what `gather_trilinear` does, as products of hat functions with the grids."""
    rows, count = grids[0].shape[0], len(places)
    chunk = min(_POINTS_PER_PRODUCT, count)
    padded = jnp.pad(places, ((0, -count % chunk), (0, 0))).reshape(-1, chunk, 3)

    def some(grid, places):
        x, y, z = (hat_functions(places[:, axis], rows) for axis in range(3))
        slabs = grid.reshape(rows, -1)
        along_x = jnp.matmul(x, slabs, precision=jax.lax.Precision.HIGHEST)
        plane = along_x.reshape(-1, rows, rows, grid.shape[-1])
        # Short sums: element by element, no products of tiny matrices.
        line = jnp.sum(y[:, :, None, None] * plane, axis=1)
        return jnp.sum(z[:, :, None] * line, axis=1)

    def whole(grid):
        parts = jax.lax.map(jax.checkpoint(lambda p: some(grid, p), prevent_cse=False), padded)
        return parts.reshape(-1, grid.shape[-1])[:count]

    return [whole(grid) for grid in grids]


def hat_functions(places: Float[Array, "points"], rows: int) -> Float[Array, "points rows"]:
    """Return max(0, 1 - |place - row|): the weight of each row of an axis at each place."""
    return jnp.maximum(0.0, 1.0 - jnp.abs(places[:, None] - jnp.arange(rows)))


def materialized(x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
    """Return x, computed once.

    XLA's CPU backend fuses what x is made of into each of its uses and computes it again there,
    gathers and all. No fusion goes across a product of matrices, even if it is with the identity.
    """

    def once(x):
        identity = jnp.eye(x.shape[-1], dtype=x.dtype)
        return jnp.matmul(x, identity, precision=jax.lax.Precision.HIGHEST)

    return jax.lax.platform_dependent(x, cpu=once, default=lambda x: x)


def refine(grid: Float[Array, "n n n channels"]) -> Float[Array, "m m m channels"]:
    """Return a grid with every cell halved, linear between: n points an axis become 2 n - 1."""
    for axis in range(3):
        before = jax.lax.slice_in_dim(grid, 0, grid.shape[axis] - 1, axis=axis)
        after = jax.lax.slice_in_dim(grid, 1, None, axis=axis)
        pairs = jnp.stack([before, 0.5 * (before + after)], axis=axis + 1)
        shape = list(grid.shape)
        shape[axis] = 2 * (shape[axis] - 1)
        last = jax.lax.slice_in_dim(grid, grid.shape[axis] - 1, None, axis=axis)
        grid = jnp.concatenate([pairs.reshape(shape), last], axis=axis)
    return grid


def smooth(grid: Float[Array, "n n n"]) -> Float[Array, "n n n"]:
    """Return a grid blurred by (1, 2, 1) / 4 along each axis; beyond the border it is 0."""
    for axis in range(3):
        beside = shifted(grid, axis, 1) + shifted(grid, axis, -1)
        grid = 0.25 * beside + 0.5 * grid
    return grid


def central_differences(grid: Float[Array, "n n n"], spacing: float) -> Float[Array, "n n n 3"]:
    """Return the gradient of a grid by central differences; beyond the border it is 0."""
    parts = [shifted(grid, axis, -1) - shifted(grid, axis, 1) for axis in range(3)]
    return jnp.stack(parts, axis=-1) / (2 * spacing)


def shifted(grid: Float[Array, "n n n"], axis: int, by: int) -> Float[Array, "n n n"]:
    """Return a grid moved up an axis by so many rows, with zeros behind it."""
    moves = [(by, -by, 0) if i == axis else (0, 0, 0) for i in range(grid.ndim)]
    return jax.lax.pad(grid, jnp.zeros((), grid.dtype), moves)
