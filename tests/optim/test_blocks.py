"""Merging, cutting and putting tensors back together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.optim import blocks


@pytest.mark.parametrize(
    ("shape", "merged"),
    [
        ((), (1,)),
        ((1, 1), (1,)),
        ((3, 3, 8, 16), (1152,)),
        ((200, 128), (200, 128)),
        ((64, 64), (4096,)),
        ((64, 65), (64, 65)),
        ((1, 4096, 1, 2), (4096, 2)),
        ((2, 3000, 3, 3), (2, 3000, 9)),
    ],
)
def test_merge_small_dims(shape, merged):
    assert blocks.merge_small_dims(shape) == merged


def test_blocks_of_a_matrix_are_its_tiles():
    matrix = np.arange(5000.0, dtype=np.float32).reshape(50, 100)  # 5000 > 4096: not merged
    layout = blocks.make_layout([matrix.shape], 40)
    got = jax.jit(lambda leaves: blocks.to_blocks(layout, leaves))([jnp.asarray(matrix)])
    want = {
        (40, 40): [matrix[:40, :40], matrix[:40, 40:80]],
        (40, 20): [matrix[:40, 80:]],
        (10, 40): [matrix[40:, :40], matrix[40:, 40:80]],
        (10, 20): [matrix[40:, 80:]],
    }
    assert got.keys() == want.keys()
    for shape, tiles in want.items():
        np.testing.assert_array_equal(got[shape], np.stack(tiles))


def test_round_trip_of_any_shapes():
    shapes = [(), (3,), (300,), (64, 65), (70, 65, 2), (2, 2, 2), (0, 4), (5000,), (70, 60)]
    rng = np.random.default_rng(0)
    leaves = [np.asarray(rng.normal(size=shape), np.float32) for shape in shapes]
    layout = blocks.make_layout(shapes, 16)
    assert [shape is None for shape in layout.merged] == [False] * 6 + [True] * 2 + [False]
    back = jax.jit(lambda x: blocks.from_blocks(layout, blocks.to_blocks(layout, x), x))(leaves)
    for leaf, same in zip(leaves, back, strict=True):
        np.testing.assert_array_equal(leaf, same)


def test_slots_and_ranks_follow_the_stacking_order():
    layout = blocks.make_layout([(20,), (70, 65), (20,)], 70)
    assert layout.slots() == {20: [((20,), 0)], 65: [((70, 65), 1)], 70: [((70, 65), 0)]}
    assert {n: r.tolist() for n, r in layout.ranks().items()} == {20: [1, 1], 65: [2], 70: [2]}
