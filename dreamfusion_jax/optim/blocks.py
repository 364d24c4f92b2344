"""Tensors as blocks: merge small dims, cut large ones, and put the blocks back together.

Blocks of the same shape are kept stacked over all tensors, so that a model of any number
of tensors costs a handful of batched operations.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_MERGED_DIM = 4096  # neighboring dims are merged while their product stays within this
MAX_DIM = 4096  # a tensor with a larger dim is not preconditioned

Shape = tuple[int, ...]


class Region(NamedTuple):
    """A box of one merged tensor that holds a whole number of equal blocks along each axis."""

    leaf: int  # which tensor, in the order of the flattened tree
    start: Shape  # corner of the box
    counts: Shape  # blocks along each axis
    block: Shape  # shape of one block

    @property
    def num_blocks(self) -> int:
        """Blocks in the box."""
        return math.prod(self.counts)

    @property
    def stop(self) -> Shape:
        """The corner opposite to `start`, exclusive."""
        sizes = zip(self.start, self.counts, self.block, strict=True)
        return tuple(start + count * size for start, count, size in sizes)


class Layout(NamedTuple):
    """How the tensors of a tree are cut into blocks; static, made of shapes only."""

    merged: tuple[Shape | None, ...]  # a tensor's merged shape; None: not preconditioned
    groups: dict[Shape, list[Region]]  # the regions that share a block shape, in stacking order

    def slots(self) -> dict[int, list[tuple[Shape, int]]]:
        """Return the (block shape, axis) pairs behind each statistic size, in stacking order."""
        pairs = [(shape, axis) for shape in self.groups for axis in range(len(shape))]
        sizes = sorted({shape[axis] for shape, axis in pairs})
        return {n: [(s, a) for s, a in pairs if s[a] == n] for n in sizes}

    def num_blocks(self, shape: Shape) -> int:
        """Return blocks of this shape over all tensors."""
        return sum(region.num_blocks for region in self.groups[shape])

    def ranks(self) -> dict[int, np.ndarray]:
        """Return the rank of the block that each statistic belongs to: size -> int[statistics]."""
        return {
            n: np.concatenate([np.full(self.num_blocks(s), len(s)) for s, _ in pairs])
            for n, pairs in self.slots().items()
        }


def merge_small_dims(shape: Sequence[int], max_size: int = MAX_MERGED_DIM) -> Shape:
    """Multiply neighboring dims, left to right, while the product stays <= max_size.

    Dims of size 1 vanish; a scalar, or a tensor of ones, becomes (1,).
    """
    merged, product = [], 1
    for dim in shape:
        if product * dim > max_size:
            merged.append(product)
            product = 1
        product *= dim
    merged.append(product)
    return tuple(dim for dim in merged if dim != 1) or (1,)


def make_layout(shapes: Sequence[Shape], block_size: int) -> Layout:
    """Plan the blocks of tensors of these shapes.

    Tensors with a dim beyond MAX_DIM, or without elements, get no blocks.
    """
    merged: list[Shape | None] = []
    groups: dict[Shape, list[Region]] = {}
    for leaf, shape in enumerate(shapes):
        if math.prod(shape) == 0 or any(dim > MAX_DIM for dim in shape):
            merged.append(None)
            continue
        merged.append(dims := merge_small_dims(shape))
        for cuts in itertools.product(*(_cut(dim, block_size) for dim in dims)):
            region = Region(leaf, *map(tuple, zip(*cuts, strict=True)))
            groups.setdefault(region.block, []).append(region)
    return Layout(tuple(merged), groups)


def _cut(dim: int, block_size: int) -> list[tuple[int, int, int]]:
    """Return one axis as (start, count, size): the whole blocks, then the smaller last one."""
    if dim <= block_size:
        return [(0, 1, dim)]
    count, rest = divmod(dim, block_size)
    whole = [(0, count, block_size)]
    return whole + [(count * block_size, 1, rest)] if rest else whole


def to_blocks(layout: Layout, leaves: Sequence[jax.Array]) -> dict[Shape, jax.Array]:
    """Return all blocks of all tensors: block shape -> f32[blocks, *block shape]."""

    def stack(region: Region) -> jax.Array:
        tensor = leaves[region.leaf].astype(jnp.float32).reshape(layout.merged[region.leaf])
        box = jax.lax.slice(tensor, region.start, region.stop)
        rank = len(region.block)
        split = box.reshape(
            [n for pair in zip(region.counts, region.block, strict=True) for n in pair]
        )
        ordered = split.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))
        return ordered.reshape(-1, *region.block)

    return {s: jnp.concatenate([stack(r) for r in regions]) for s, regions in layout.groups.items()}


def from_blocks(
    layout: Layout, blocks: dict[Shape, jax.Array], leaves: Sequence[jax.Array]
) -> list[jax.Array]:
    """Return the inverse of to_blocks, f32; tensors without blocks are taken from `leaves`."""
    boxes: list[list[tuple[Shape, jax.Array]]] = [[] for _ in leaves]
    for shape, regions in layout.groups.items():
        ends = np.cumsum([region.num_blocks for region in regions])[:-1]
        for region, part in zip(regions, jnp.split(blocks[shape], ends), strict=True):
            boxes[region.leaf].append((region.start, _unstack(region, part)))
    return [
        leaf if merged is None else _assemble(merged, parts).reshape(leaf.shape)
        for leaf, merged, parts in zip(leaves, layout.merged, boxes, strict=True)
    ]


def _unstack(region: Region, part: jax.Array) -> jax.Array:
    """[blocks, *block shape] -> the box that the region covers."""
    rank = len(region.block)
    grid = part.reshape(region.counts + region.block)
    interleaved = [axis for a in range(rank) for axis in (a, rank + a)]
    sizes = [count * size for count, size in zip(region.counts, region.block, strict=True)]
    return grid.transpose(interleaved).reshape(sizes)


def _assemble(shape: Shape, parts: list[tuple[Shape, jax.Array]]) -> jax.Array:
    if len(parts) == 1:
        return parts[0][1]
    tensor = jnp.zeros(shape, parts[0][1].dtype)
    for start, box in parts:
        tensor = jax.lax.dynamic_update_slice(tensor, box, start)
    return tensor
