import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.diffusion.text_to_image import (
    TextToImagePrior,
    eps_from_prediction,
    networks_from_config,
    param_shapes,
    save_prior,
)
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.word_tokenizer import train_tokenizer

CONFIG = {
    "image_size": 4,
    "tokens": 6,
    "prediction": "v",
    "t_max": 0.99,
    "unet": {
        "in_channels": 3,
        "out_channels": 3,
        "patch_size": 2,
        "block_out_channels": [8],
        "layers_per_block": 1,
        "down_block_types": ["ResnetDownsampleBlock2D"],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ["ResnetUpsampleBlock2D"],
        "attention_head_dim": 8,
        "cross_attention_dim": 8,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 1,
        "resnet_time_scale_shift": "scale_shift",
        "norm_num_groups": 2,
    },
    "text_encoder": {
        "vocab_size": 16,
        "d_model": 8,
        "num_layers": 1,
        "num_heads": 1,
        "d_kv": 8,
        "d_ff": 8,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    shapes = param_shapes(*networks_from_config(CONFIG), CONFIG)
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32) * 0.2, shapes)
    save_prior(folder, CONFIG, train_tokenizer(["a red teapot, front view"]), params)
    return folder


@pytest.mark.slow
def test_loaded_prior_fulfills_the_protocol(folder):
    prior = TextToImagePrior.load(folder)
    assert isinstance(prior, Prior)
    assert prior.image_shape == (4, 4, 3)
    rows = prior.encode(["a teapot", "red teapot", ""])
    assert rows.states.shape == (3, 6, 8)
    z, t = jnp.ones((3, 4, 4, 3)), jnp.array([0.1, 0.5, 0.9])
    eps = prior.eps_hat(prior.params, z, t, rows)
    assert eps.shape == z.shape and bool(jnp.isfinite(eps).all())
    assert prior.unknown_words("a blue teapot") == ["blue"]


def test_v_gives_back_the_noise():
    rng = np.random.default_rng(1)
    x, eps = jnp.asarray(rng.standard_normal((2, 2, 4, 4, 3)), jnp.float32)
    alpha, sigma = jnp.array([0.6, 0.8]), jnp.array([0.8, 0.6])
    a, s = alpha[:, None, None, None], sigma[:, None, None, None]
    found = eps_from_prediction(a * eps - s * x, a * x + s * eps, alpha, sigma, "v")
    np.testing.assert_allclose(found, eps, atol=1e-5)


def test_bad_folders_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="not a model folder"):
        TextToImagePrior.load(tmp_path)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"prediction": "x0"}))
    with pytest.raises(UserError, match="prediction='x0', which must be one of 'eps', 'v'"):
        TextToImagePrior.load(tmp_path)
    wider = CONFIG | {"text_encoder": CONFIG["text_encoder"] | {"d_ff": 12}}
    (tmp_path / "config.json").write_text(json.dumps(wider))
    with pytest.raises(UserError, match="do not fit"):
        TextToImagePrior.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    weights = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="ends before the tensor"):
        TextToImagePrior.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 10**12}, "image_size=1000000000000, which must be"),
        ({"image_size": 5}, "image_size is 5, and patch_size=2, which does not divide it"),
        ({"tokens": -3}, "tokens=-3, which must be"),
        ({"t_max": float("nan")}, "t_max=nan, which must be"),
        ({"unet": [1]}, "unet=.1., which must be a table"),
        ({"unet": CONFIG["unet"] | {"norm_num_groups": 3}}, "norm_num_groups=3"),
        ({"text_encoder": CONFIG["text_encoder"] | {"d_model": 16}}, "d_model is 16, and the UNet"),
        ({"text_encoder": CONFIG["text_encoder"] | {"num_heads": 1e12}}, "num_heads=1"),
    ],
)
def test_configs_that_make_no_sense_are_named(folder, tmp_path, change, message):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(UserError, match=message) as caught:
        TextToImagePrior.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_tokenizer_of_another_model_is_named(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    train_tokenizer([" ".join(f"w{i}" for i in range(40))]).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="has the token 42, .* knows 16"):
        TextToImagePrior.load(tmp_path)
