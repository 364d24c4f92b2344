import numpy as np
import pytest

from dreamfusion_jax.pretrained.convert import flax_path, from_pretrained


@pytest.mark.parametrize(
    ("name", "rank", "path"),
    [
        ("conv_in.weight", 4, "conv_in/kernel"),
        ("conv_in.bias", 1, "conv_in/bias"),
        ("up_blocks.2.attentions.0.to_out.0.weight", 2, "up_blocks_2/attentions_0/to_out_0/kernel"),
        ("mid_block.attentions.0.group_norm.weight", 1, "mid_block/attentions_0/group_norm/scale"),
        (
            "add_embedding.pool.positional_embedding",
            2,
            "add_embedding/pool/positional_embedding",
        ),
        ("shared.weight", 2, "shared/embedding"),
        (
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            2,
            "encoder/block_0/layer_0/SelfAttention/relative_attention_bias/embedding",
        ),
    ],
)
def test_published_names(name, rank, path):
    assert "/".join(flax_path(name, rank)) == path


def test_arrays_are_laid_out_for_flax():
    conv = np.arange(2 * 3 * 5 * 4).reshape(2, 3, 5, 4)
    linear = np.arange(6).reshape(2, 3)
    tree = from_pretrained([("c.weight", conv), ("l.weight", linear), ("shared.weight", linear)])
    assert tree["c"]["kernel"][4, 3, 2, 1] == conv[1, 2, 4, 3]
    np.testing.assert_array_equal(tree["l"]["kernel"], linear.T)
    np.testing.assert_array_equal(tree["shared"]["embedding"], linear)
