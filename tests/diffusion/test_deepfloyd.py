import jax
import numpy as np
import pytest

from dreamfusion_jax.diffusion.deepfloyd import unet_shapes


@pytest.mark.slow
@pytest.mark.parametrize(("size", "billions"), [("if-i-m", 0.4), ("if-i-l", 0.9), ("if-i-xl", 4.3)])
def test_sizes_are_the_published_ones(size, billions):
    shapes = jax.tree.leaves(unet_shapes(size))
    count = sum(np.prod(leaf.shape) for leaf in shapes)
    assert round(count / 1e9, 1) == billions
    assert all(leaf.dtype == "bfloat16" for leaf in shapes)
