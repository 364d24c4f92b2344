import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.diffusion.text_to_image import TextToImagePrior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.augmentation import to_device
from dreamfusion_jax.furniture.prior_data import CaptionedImages
from dreamfusion_jax.furniture.prior_training import build, model_config, tile, train_prior
from dreamfusion_jax.furniture.trainer import stop_if_not_finite
from dreamfusion_jax.prompts.word_tokenizer import train_tokenizer
from dreamfusion_jax.train.checkpoint import read_config, write_config


def small_config(steps):
    config = load_config("prior_small").unlock()
    config.model.image_size = 4
    config.model.tokens = 4
    config.model.unet.update(
        {
            "block_out_channels": (8,),
            "down_block_types": ("ResnetDownsampleBlock2D",),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "resnet_time_scale_shift": "scale_shift",
            "up_block_types": ("ResnetUpsampleBlock2D",),
            "attention_head_dim": 8,
            "cross_attention_dim": 8,
            "addition_embed_type_num_heads": 1,
            "norm_num_groups": 2,
        }
    )
    config.model.text_encoder.update(
        {"d_model": 8, "num_layers": 1, "num_heads": 1, "d_kv": 8, "d_ff": 8}
    )
    config.optim.update({"learning_rate": 3e-3, "warmup_steps": 10, "beta2": 0.99, "ema": 0.998})
    config.train.update(
        {"steps": steps, "batch": 16, "steps_per_call": 100, "checkpoint_every": 100}
    )
    config.sheet.update({"every": 200, "prompts": ("red", "green"), "columns": 2, "steps": 4})
    return config.lock()


def two_colors():
    rgba = np.full((2, 8, 8, 4), 255, np.uint8)
    rgba[0, ..., 1:3] = 0
    rgba[1, ..., 0:3:2] = 0
    return CaptionedImages(rgba, [["red"], ["green"]])


@pytest.mark.slow
def test_learns_colors_and_resumes_exactly(stops_after_a_checkpoint, tmp_path):
    """Words choose colors after 200 steps; 100 + 100 steps give the same bits as 200."""
    data = two_colors()
    how = {"progress": False, "profile": range(120, 130)}
    folder = train_prior(small_config(200), data, tmp_path / "whole", **how)
    assert list((tmp_path / "whole" / "profile").rglob("*.xplane.pb"))
    prior = TextToImagePrior.load(folder)
    z = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    t = jnp.full(2, 0.8, np.float32)
    alpha, sigma = prior.schedule.alpha_sigma(t[0])
    eps = prior.eps_hat(prior.params, z, t, prior.encode(["red", "green"]))
    x = np.asarray((z - sigma * eps) / alpha).mean((1, 2))
    assert x[0, 0] > 0.3 > -0.3 > x[0, 1] and x[1, 1] > 0.3 > -0.3 > x[1, 0]

    with stops_after_a_checkpoint():
        train_prior(small_config(200), data, tmp_path / "parts", progress=False)
    resumed = train_prior(small_config(200), data, tmp_path / "parts", progress=False)
    assert (resumed / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    check_start_from(data, folder, tmp_path / "init")
    rows = [json.loads(line) for line in (tmp_path / "parts/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [100, 200]
    with PIL.Image.open(tmp_path / "parts/samples/0000200.png") as sheet:
        assert sheet.size == (10, 5)


def check_start_from(data, model, workdir):
    """A run that starts from a model, with one more word, draws as well from the beginning."""
    config = small_config(100).unlock()
    config.optim.update({"learning_rate": 1e-9, "final_learning_rate": 1e-9})
    more = dataclasses.replace(data, captions=[["red"], ["aqua"]])
    started = TextToImagePrior.load(train_prior(config, more, workdir, progress=False, init=model))
    whole = TextToImagePrior.load(model)
    assert started.tokenizer.get_vocab() != whole.tokenizer.get_vocab()
    z, t = jax.random.normal(jax.random.key(1), (1, 4, 4, 3)), jnp.full(1, 0.8)
    both = [p.eps_hat(p.params, z, t, p.encode(["red"])) for p in (started, whole)]
    np.testing.assert_allclose(*both, atol=0.05)
    config.model.unet.block_out_channels = (16,)
    with pytest.raises(UserError, match="another architecture"):
        train_prior(config, more, workdir.with_name("wide"), progress=False, init=model)
    config = small_config(100).unlock()
    config.model.text_encoder.num_layers = 2
    with pytest.raises(UserError, match="another architecture"):
        train_prior(config, more, workdir.with_name("words"), progress=False, init=model)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    train_prior_here = functools.partial(train_prior, workdir=tmp_path, progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no run"):
        train_prior_here(small_config(100), two_colors())
    (tmp_path / "notes.txt").unlink()
    write_config(tmp_path, load_config("quick"))
    with pytest.raises(UserError, match="holds a run with"):
        train_prior_here(small_config(100), two_colors())
    assert read_config(tmp_path) == load_config("quick")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.steps", 150, "train.steps=150"),
        ("train.steps_per_call", 0, "steps_per_call=0"),
        ("train.time_exponent", 0.0, "time_exponent=0.0"),
        ("train.dtype", "float16", "train.dtype is 'float16'; choose one of float32, bfloat16"),
        ("sheet.every", 0, "sheet.every=0"),
        ("optim.warmup_steps", 100, "warmup_steps=100 must lie below train.steps=100"),
    ],
)
def test_senseless_counts_are_refused_before_anything_is_written(tmp_path, key, value, message):
    config = small_config(100)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        train_prior(config, two_colors(), tmp_path, progress=False)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_bfloat16_is_for_the_arithmetic_and_weights_stay_float32():
    """The same loss to bfloat16's 3 digits, and not to float32's 7."""
    losses = []
    for dtype in ("float32", "bfloat16"):
        config = small_config(100).unlock()
        config.train.update({"dtype": dtype, "steps_per_call": 1})
        model = model_config(config)
        tokenizer = train_tokenizer(["red", "green"])
        model["text_encoder"]["vocab_size"] = tokenizer.get_vocab_size()
        state, run = build(config, model)
        data = to_device(two_colors(), tokenizer, model["tokens"])
        for _ in range(6):  # before the first the network's last layer is zero
            state, metrics = run(state, data)
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        losses.append(metrics["loss"][0])
    np.testing.assert_allclose(*losses, rtol=1e-2)
    assert abs(losses[0] - losses[1]) > 1e-6 * losses[0]


def test_non_finite_loss_is_named():
    metrics = {"loss": np.array([0.1, np.nan]), "gradient_norm": np.array([1.0, 2.0])}
    with pytest.raises(UserError, match="loss is not finite at step 12"):
        stop_if_not_finite(10, metrics)


def test_model_config_is_plain_json():
    model = model_config(load_config("prior_small"))
    assert json.loads(json.dumps(model)) == model
    assert model["unet"]["block_out_channels"] == [48, 64, 128]


def test_tile():
    images = np.zeros((3, 2, 2, 3))
    sheet = tile(images, 2)
    assert sheet.shape == (6, 6, 3)
    assert sheet[0, 0].max() == 0 and sheet[2, 0].min() == 255 and sheet[4, 4].min() == 255
