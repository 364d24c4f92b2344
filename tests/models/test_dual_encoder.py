import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.models.dual_encoder import (
    DualEncoder,
    init_params,
    network_from_config,
    save_dual_encoder,
)
from dreamfusion_jax.prompts.word_tokenizer import train_tokenizer

CONFIG = {
    "image_size": 16,
    "tokens": 6,
    "width": 8,
    "image_channels": [8, 16],
    "image_blocks": [1, 1],
    "text": {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = train_tokenizer(["a teapot", "a cat, back view"])
    network = network_from_config(CONFIG, tokenizer.get_vocab_size())
    params = init_params(network, CONFIG, jax.random.key(0))
    save_dual_encoder(folder, CONFIG, tokenizer, params)
    return folder


@pytest.mark.slow
def test_pictures_and_texts_become_unit_vectors(folder):
    encoder = DualEncoder.load(folder)
    rng = np.random.default_rng(0)
    images = encoder.images(rng.random((70, 24, 24, 3)).astype(np.float32))
    texts = encoder.texts(["a teapot", "a cat", "a teapot"])
    assert images.shape == (70, 8) and texts.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(texts[0], texts[2], atol=1e-6)
    assert np.abs(texts[0] - texts[1]).max() > 1e-3


def test_padding_changes_nothing(folder):
    encoder = DualEncoder.load(folder)
    short = dataclasses.replace(encoder, tokens=3)  # "a cat" and its end
    np.testing.assert_allclose(encoder.texts(["a cat"]), short.texts(["a cat"]), atol=1e-6)


def test_what_is_no_dual_encoder_is_a_sentence(folder, tmp_path):
    with pytest.raises(UserError, match="no folder of a dual encoder"):
        DualEncoder.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"tokens": 3}))
    with pytest.raises(UserError, match="lacks 'image_blocks'"):
        DualEncoder.load(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": None},
        {"width": "8"},
        {"image_channels": 8},
        {"image_size": None},
        {"tokens": 10**12},
        {"image_blocks": [10**9, 1]},
        {"text": CONFIG["text"] | {"d_ff": float("nan")}},
    ],
)
def test_a_damaged_config_is_a_sentence(folder, tmp_path, wrong):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG | wrong))
    with pytest.raises(UserError, match=r"config\.json has .*which must be "):
        DualEncoder.load(tmp_path / "model")
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"width": 4}))
    with pytest.raises(UserError, match="do not fit"):
        DualEncoder.load(tmp_path)
