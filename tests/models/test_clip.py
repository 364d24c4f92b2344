import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.models.clip import CLIPNetwork, CLIPVisionEncoder
from dreamfusion_jax.models.clip_text import CLIPTextEncoder
from dreamfusion_jax.models.preprocessing import Preprocessing
from dreamfusion_jax.pretrained.clip_folder import load_clip

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "golden"))
sys.path.insert(0, str(ROOT.parent / "launch"))
from make_clip import OPEN_CLIP, TRANSFORMERS, inputs  # noqa: E402
from make_model_folder import write_byte_pairs  # noqa: E402
from make_networks import named_array  # noqa: E402


@pytest.fixture(scope="module")
def golden():
    return np.load(ROOT / "golden" / "clip.npz")


def tensors(golden, kind):
    pairs = (str(name).split(":") for name in golden[f"{kind}/names"])
    shaped = ((name, tuple(int(n) for n in shape.split(",") if n)) for name, shape in pairs)
    return {name: np.array(named_array(name, shape)) for name, shape in shaped}


def write_folder(golden, folder, kind, change=None):
    """A folder as it is published, with the weights of the golden arrays."""
    config, weights = (
        (TRANSFORMERS, "model") if kind == "transformers" else (None, "open_clip_model")
    )
    folder.mkdir(exist_ok=True)
    found = tensors(golden, kind)
    if change:
        change(found)
    safetensors.numpy.save_file(found, folder / f"{weights}.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    else:
        settings = {"model_cfg": OPEN_CLIP, "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(settings))
    write_byte_pairs(folder, ["a", "cat"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformers", "open_clip"])
def test_equals_the_published_implementation(golden, tmp_path, kind):
    clip = load_clip(write_folder(golden, tmp_path, kind))
    pixels, tokens = inputs()
    ends = (tokens == 95).argmax(1)
    arguments = (jnp.asarray(pixels), jnp.asarray(tokens, jnp.int32), jnp.asarray(ends))
    images, texts, scale = clip.network.apply({"params": clip.params}, *arguments)
    logits = scale * images @ texts.T
    for name, ours in (("images", images), ("texts", texts), ("logits", logits)):
        theirs = golden[f"{kind}/{name}"]
        difference = np.abs(np.asarray(ours) - theirs).max() / theirs.std()
        print(f"{kind}, {name}: max difference {difference:.1e} of the standard deviation")
        assert difference < 2e-4


def test_published_size():
    """CLIP ViT-L/14: 428 million parameters."""
    vision = CLIPVisionEncoder(1024, 4096, 24, 16, patch_size=14)
    text = CLIPTextEncoder(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    network = CLIPNetwork(vision, text, 768)
    pixels, tokens = jnp.zeros((1, 224, 224, 3)), jnp.zeros((1, 77), jnp.int32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), pixels, tokens, tokens[:, 0])
    assert sum(np.prod(s.shape) for s in jax.tree.leaves(shapes)) == 427_616_513


@pytest.mark.parametrize("size", [(64, 64), (90, 61), (200, 320), (20, 31)])
def test_pictures_are_resized_as_by_pil(size):
    rng = np.random.default_rng(sum(size))
    noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    smooth = PIL.Image.fromarray(noise[:4, :4]).resize(size[::-1], PIL.Image.Resampling.BICUBIC)
    for image in (noise, np.asarray(smooth)):
        height, width = size
        short = min(size)
        sides = int(32 * width / short), int(32 * height / short)
        resized = PIL.Image.fromarray(image).resize(sides, PIL.Image.Resampling.BICUBIC)
        left, top = ((side - 32) // 2 for side in sides)
        expected = np.asarray(resized.crop((left, top, left + 32, top + 32))) / 255
        ours = Preprocessing(32, 32).resize(jnp.asarray(image[None] / 255, jnp.float32))[0]
        difference = np.abs(np.asarray(ours) - expected)
        assert difference.max() < 1.01 / 255
        assert (difference > 0.5 / 255).mean() < 0.02


def test_normalization_takes_the_mean_and_scale_of_each_channel():
    how = Preprocessing(2, 2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    np.testing.assert_allclose(how.normalize(jnp.ones((1, 2, 2, 3)))[0, 0, 0], (1, 3, 1))


@pytest.mark.slow
def test_pictures_and_texts_become_unit_vectors(golden, tmp_path, caplog):
    clip = load_clip(write_folder(golden, tmp_path, "transformers"))
    # The tokenizer of the folder has more words than this small model.
    clip.tokenizer.__dict__.update(split=lambda text: [len(w) for w in text.split()], start=0)
    clip.tokenizer.__dict__.update(end=95, pad=95)
    renders = np.random.default_rng(0).random((35, 40, 48, 3), np.float32)
    images, texts = clip.images(renders), clip.texts(["a cat", "a " * 20, *["dog"] * 40])
    assert images.shape == (35, 24) and texts.shape == (42, 24)
    for vectors in (images, texts):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert "has 22 tokens, of which the text encoder reads 13" in caplog.text
    # `embed` is what `images` does after resizing.
    resized = clip.preprocessing.resize(jnp.asarray(renders[:2]))
    np.testing.assert_allclose(clip.embed(clip.params, resized), images[:2], atol=1e-5)


def test_openai_models_in_openclip_folders_have_their_activation(golden, tmp_path):
    folder = write_folder(golden, tmp_path, "open_clip")
    path = folder / "open_clip_config.json"
    settings = json.loads(path.read_text())
    for quick, name in ((False, "gelu"), (True, "quick_gelu")):
        settings["model_cfg"]["quick_gelu"] = quick
        path.write_text(json.dumps(settings))
        network = load_clip(folder).network
        assert network.vision_model.hidden_act == network.text_model.hidden_act == name


@pytest.mark.slow
def test_embedding_has_a_gradient(golden, tmp_path):
    clip = load_clip(write_folder(golden, tmp_path, "open_clip"))
    image = jnp.full((1, 32, 32, 3), 0.5).at[:, 8:20, 8:20].set(0.9)
    grad = jax.grad(lambda x: clip.embed(clip.params, x)[0, 0])(image)
    assert np.isfinite(grad).all() and np.abs(grad).max() > 0


def test_folders_with_both_layouts_are_read_as_the_one_that_is_whole(golden, tmp_path):
    """As OpenCLIP's models are published: beside a config.json of another library."""
    write_folder(golden, tmp_path, "open_clip")
    (tmp_path / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')
    assert load_clip(tmp_path).network.vision_model.hidden_act == "gelu"
    (tmp_path / "config.json").write_text(json.dumps(TRANSFORMERS))  # without its weights
    assert load_clip(tmp_path).network.vision_model.hidden_act == "gelu"
    write_folder(golden, tmp_path, "transformers")
    assert load_clip(tmp_path).network.vision_model.hidden_act == "quick_gelu"


def no_weight(found):
    del found["visual_projection.weight"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": {"model_type": "clip_text_model"}}, "of the kind 'clip_text_model'"),
        ({"config.json": {"unet": {}}}, "of the kind None"),
        ({"model_index.json": {}}, "neither config.json nor open_clip_config.json"),
        ({"open_clip_config.json": {"model_cfg": {"vision_cfg": {"layers": [3, 4]}}}}, "ViT-B/32"),
        ({"config.json": []}, "holds a list"),
        (
            {"config.json": {"model_type": "clip", "vision_config": {"hidden_act": "swish"}}},
            "hidden_act='swish'",
        ),
        (
            {"config.json": TRANSFORMERS, "preprocessor_config.json": {"crop_size": 224}},
            "cuts out 224 pixels",
        ),
        ({"config.json": TRANSFORMERS}, "no .safetensors files"),
    ],
)
def test_folders_of_another_kind_are_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"vision_config": [3]}),
        ("config.json", {"projection_dim": "8"}),
        ("preprocessor_config.json", {"size": "big"}),
        ("preprocessor_config.json", {"image_mean": 0.5}),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}),
        ("config.json", {"vision_config": {"image_size": 10**12}}),
        ("config.json", {"text_config": TRANSFORMERS["text_config"] | {"vocab_size": -1}}),
        ("open_clip_config.json", {"model_cfg": OPEN_CLIP | {"text_cfg": 3}}),
        ("open_clip_config.json", {"model_cfg": OPEN_CLIP | {"embed_dim": None}}),
    ],
)
def test_damaged_configs_are_a_sentence(golden, tmp_path, name, change):
    kind = "open_clip" if name == "open_clip_config.json" else "transformers"
    path = write_folder(golden, tmp_path, kind) / name
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | change))
    with pytest.raises(UserError, match="cannot be read as a CLIP model: .* must be "):
        load_clip(tmp_path)


def test_missing_folders_and_weights_are_named(golden, tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        load_clip(tmp_path / "no")
    write_folder(golden, tmp_path / "a", "transformers", no_weight)
    with pytest.raises(UserError, match="lack visual_projection.kernel"):
        load_clip(tmp_path / "a")
