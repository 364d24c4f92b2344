"""Pictures on a sphere: one square, unfolded along an octahedron, and smaller copies of it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dreamfusion_jax.scene.fields.interpolation import weighted_rows


def octahedral(directions: Float[Array, "*batch 3"]) -> Float[Array, "*batch 2"]:
    """Return places in [0, 1]^2 of directions, which need no unit length (Cigolle et al. 2014).

    The upper half sphere is a square on its corner in the middle, the lower half its four corners.
    """
    size = jnp.sum(jnp.abs(directions), -1, keepdims=True)
    x, y, z = jnp.moveaxis(directions / jnp.maximum(size, 1e-12), -1, 0)
    sign_x, sign_y = jnp.where(x >= 0, 1.0, -1.0), jnp.where(y >= 0, 1.0, -1.0)
    u = jnp.where(z >= 0, x, (1 - jnp.abs(y)) * sign_x)
    v = jnp.where(z >= 0, y, (1 - jnp.abs(x)) * sign_y)
    return 0.5 * jnp.stack([u, v], axis=-1) + 0.5


def smaller_copies(
    texture: Float[Array | np.ndarray, "height width channels"],
) -> list[Float[Array | np.ndarray, "_ _ channels"]]:
    """Return a texture and its copies of half the sides each, by means, down to one texel.

    Raises:
      ValueError: a side is no power of 2.
    """
    for side in texture.shape[:2]:
        if side & (side - 1):
            raise ValueError(f"The size {side} of a texture is no power of 2.")
    copies = [texture]
    while copies[-1].shape[:2] != (1, 1):
        height, width, channels = copies[-1].shape
        rows, columns = min(height, 2), min(width, 2)
        blocks = copies[-1].reshape(height // rows, rows, width // columns, columns, channels)
        copies.append(blocks.mean((1, 3)))
    return copies


def look_up(
    texture: Float[Array, "size size channels"],
    places: Float[Array, "points 2"],
    texels: Float[Array, "points"],
) -> Float[Array, "points channels"]:
    """Return a texture at places, as sharp as pixels can show it.

    Linear between four texels, and between two copies of the texture (trilinear, Williams 1983).

    Args:
      texture: on the octahedron.
      places: in [0, 1]^2, rows first.
      texels: how many of them a pixel covers, in each direction.
    """
    copies = smaller_copies(texture)
    level = jnp.clip(jnp.log2(jnp.maximum(texels, 1e-6)), 0, len(copies) - 1.001)
    finer = jnp.floor(level).astype(jnp.int32)
    # All copies are one table, so that a point's two are found by their numbers.
    table = jnp.concatenate([copy.reshape(-1, texture.shape[-1]) for copy in copies])
    sizes = jnp.asarray([len(copy) for copy in copies])
    starts = jnp.cumsum(sizes**2) - sizes**2
    index, weights = [], []
    for own, share in ((finer, 1 - (level - finer)), (finer + 1, level - finer)):
        size, start = sizes[own], starts[own]
        place = jnp.clip(places * size[:, None] - 0.5, 0.0, (size[:, None] - 1.0))
        corner = jnp.floor(place).astype(jnp.int32)
        upper = place - corner
        for i in (0, 1):
            for j in (0, 1):
                row = jnp.minimum(corner[:, 0] + i, size - 1)
                column = jnp.minimum(corner[:, 1] + j, size - 1)
                index.append(start + row * size + column)
                sides = [jnp.where(k, upper[:, a], 1 - upper[:, a]) for a, k in ((0, i), (1, j))]
                weights.append(share * sides[0] * sides[1])
    return weighted_rows(table, jnp.stack(index), jnp.stack(weights))


def blurred(
    texture: Float[Array, "size size channels"], std: float, width: int
) -> Float[Array, "size size channels"]:
    """Return a Gaussian blur of a standard deviation in texels, over `width` (odd) of them."""
    if std == 0 or width == 1:
        return texture
    offsets = [i - width // 2 for i in range(width)]
    kernel = [math.exp(-0.5 * (i / std) ** 2) for i in offsets]
    kernel = [value / sum(kernel) for value in kernel]
    for axis in (0, 1):
        pads = [(width // 2, width // 2) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(texture, pads, "edge")
        parts = (
            weight * jax.lax.slice_in_dim(padded, i, i + len(texture), axis=axis)
            for i, weight in enumerate(kernel)
        )
        texture = sum(parts, start=jnp.zeros_like(texture))
    return texture
