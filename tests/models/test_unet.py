import sys
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.models.unet import (
    check_size,
    depth_to_space,
    space_to_depth,
    timestep_features,
    unet_from_config,
)
from dreamfusion_jax.models.unet_blocks import Upsample, conv3x3
from dreamfusion_jax.pretrained.convert import from_pretrained

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_networks import UNETS, named_array  # noqa: E402


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "networks.npz")


def published_params(names):
    """The Flax tree of name-seeded weights, from names like "conv_in.weight:32,3,3,3"."""
    pairs = (str(n).split(":") for n in names)
    shaped = ((n, tuple(map(int, shape.split(",")))) for n, shape in pairs)
    return from_pretrained((n, named_array(n, shape)) for n, shape in shaped)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNETS)
def test_equals_diffusers(golden, name):
    unet = unet_from_config(UNETS[name])
    g = {k.split("/")[1]: golden[k] for k in golden.files if k.startswith(name + "/")}
    params = published_params(g["names"])
    out = jax.jit(unet.apply)({"params": params}, g["x"], g["t"], g["text"], g.get("mask"))
    difference = np.abs(np.asarray(out) - g["out"]).max() / g["out"].std()
    print(f"{name}: max difference {difference:.2e} of the output's std")
    assert difference < 2e-4


def test_published_names_cover_the_whole_tree(golden):
    unet = unet_from_config(UNETS["if_small"])
    x, text = golden["if_small/x"], golden["if_small/text"]
    shapes = jax.eval_shape(unet.init, jax.random.key(0), x, jnp.zeros(2), text)["params"]
    published = published_params(golden["if_small/names"])
    ours = flax.traverse_util.flatten_dict(shapes)
    theirs = flax.traverse_util.flatten_dict(published)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.slow
def test_masked_tokens_do_not_matter():
    config = {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8,),
        "layers_per_block": 1,
        "down_block_types": ("SimpleCrossAttnDownBlock2D",),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("ResnetUpsampleBlock2D",),
        "attention_head_dim": 4,
        "cross_attention_dim": 8,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "resnet_time_scale_shift": "scale_shift",
        "norm_num_groups": 2,
        "patch_size": 2,
    }
    unet = unet_from_config(config)
    rng = np.random.default_rng(0)
    x, text = rng.standard_normal((1, 4, 4, 3)), rng.standard_normal((1, 3, 8))
    x, text, t = x.astype(np.float32), text.astype(np.float32), jnp.full(1, 500.0)
    mask = np.array([[True, True, False]])
    shapes = jax.eval_shape(unet.init, jax.random.key(0), x, t, text, mask)
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32) * 0.3, shapes)
    apply = jax.jit(unet.apply)
    out = apply(params, x, t, text, mask)
    assert out.shape == (1, 4, 4, 3)
    hidden, seen = text.copy(), text.copy()
    hidden[:, 2] += 1.0
    seen[:, 1] += 1.0
    np.testing.assert_allclose(apply(params, x, t, hidden, mask), out, atol=1e-5)
    assert np.abs(apply(params, x, t, seen, mask) - out).max() > 1e-3


def test_patches_are_undone():
    x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    deep = space_to_depth(x, 2)
    assert deep.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(deep[0, 0, 0], x[0, :2, :2].ravel())
    np.testing.assert_array_equal(depth_to_space(deep, 2), x)


def test_timestep_features():
    features = timestep_features(jnp.array([2.0]), 4)
    np.testing.assert_allclose(
        features[0], [np.cos(2), np.cos(0.02), np.sin(2), np.sin(0.02)], atol=1e-6
    )


@pytest.mark.slow
def test_odd_sides_are_halved_and_doubled_again():
    """Doubled by the nearest neighbor to the size on the way down, not to an even one."""
    unet = unet_from_config(UNETS["sd_1_5"] | {"layers_per_block": 1})
    text = jax.ShapeDtypeStruct((1, 3, 48), jnp.float32)
    for side in (9, 14, 16):
        x = jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)
        t = jax.ShapeDtypeStruct((1,), jnp.float32)
        out, _ = jax.eval_shape(unet.init_with_output, jax.random.key(0), x, t, text)
        assert out.shape == x.shape
        check_size(unet, side, "sample_size")
    with pytest.raises(UserError, match="multiple of 8"):
        check_size(unet_from_config(UNETS["if_i_xl"]), 12, "sample_size")
    x = jax.random.normal(jax.random.key(0), (1, 3, 4, 2))
    for size in ((5, 7), (6, 8), (5, 8)):
        upsample = Upsample(2, size)
        params = upsample.init(jax.random.key(1), x)
        rows, columns = (np.arange(n) * s // n for n, s in zip(size, (3, 4), strict=True))
        nearest = x[:, rows][:, :, columns]
        expected = conv3x3(2, "conv").apply({"params": params["params"]["conv"]}, nearest)
        np.testing.assert_allclose(upsample.apply(params, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"down_block_types": ["KDownBlock2D"] * 2}, "KDownBlock2D"),
        ({"down_block_types": ["DownBlock2D"]}, "down_block_types has 1 entries"),
        ({"resnet_time_scale_shift": "ada_group"}, "resnet_time_scale_shift"),
        ({"addition_embed_type": "text_time"}, "'text_time'"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"class_embed_type": [1] * 1000}, "class_embed_type=.1, 1, 1, 1, 1, 1, ...."),
        ({"addition_embed_type_num_heads": 7}, "heads=7, which does not divide the text's width"),
        ({"cross_attention_dim": 40}, "does not divide cross_attention_dim"),
        ({"layers_per_block": [1, 2]}, "layers_per_block"),
        ({"encoder_hid_dim": 0}, "encoder_hid_dim=0"),
    ],
)
def test_unsupported_config_is_named(change, named):
    with pytest.raises(UserError, match=named):
        unet_from_config(UNETS["if_small"] | change)
