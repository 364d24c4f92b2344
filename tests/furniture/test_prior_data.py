import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.augmentation import (
    Augmentation,
    backgrounds,
    draw_batch,
    random_placement,
    to_device,
)
from dreamfusion_jax.furniture.build_object_views import write_sheet
from dreamfusion_jax.furniture.colors import CENTER_HUE, dominant_color
from dreamfusion_jax.furniture.object_views import SIZE, ObjectViews, load_object_views
from dreamfusion_jax.furniture.prior_data import (
    CAPTIONS,
    CaptionedImages,
    Extras,
    from_library,
    from_pack,
    load_data,
    side_by_side,
)
from dreamfusion_jax.prompts.word_tokenizer import train_tokenizer

EXACT = Augmentation(batch=64, image_size=4, scale=0.0, shift=0.0, drop_caption=0.25)
PLACE = jax.jit(random_placement, static_argnums=2)


def small_library():
    rgba = np.zeros((2, 3, 64, 64, 4), np.uint8)
    rgba[:, 1] = 200
    azimuth = np.array([[0.0, np.pi / 2, np.pi]] * 2, np.float32)
    elevation = np.array([[0.2, 0.2, 1.4]] * 2, np.float32)
    synonyms = {"teapot": ("tea pot",), "apple": ()}
    colors = {"teapot": "white", "apple": ""}
    return ObjectViews(("teapot", "apple"), rgba, azimuth, elevation, 1.5, 1.1, synonyms, colors)


def test_captions_name_the_object_and_the_view():
    data = from_library(small_library(), ["apple", "teapot"])
    assert data.rgba.shape == (6, 64, 64, 4)
    assert {len(c) for c in data.captions} == {CAPTIONS}
    assert all("apple" in c for captions in data.captions[:3] for c in captions)
    words = " ".join(data.captions[0] + data.captions[3])
    assert "front view" in words and "front view at eye level" in words
    assert "back" not in words and "overhead" not in words
    assert "overhead view" in " ".join(data.captions[5])
    assert "tea pot" in " ".join(sum(data.captions[3:], []))
    assert from_library(small_library(), ["apple", "teapot"]).captions == data.captions


def test_extras_are_recolored_copies_and_pairs():
    library = load_object_views(nouns=["vase", "armchair"])
    extras = Extras(recolored=0.1, pairs=0.05)
    data = from_library(library, extras=extras)
    plain = from_library(library)
    made = len(data.rgba) - len(plain.rgba)
    assert 28 <= made <= 42 and data.captions[:288] == plain.captions
    copies, pairs = slice(288, 288 + made - 14), slice(288 + made - 14, None)
    for rgba, captions in zip(data.rgba[copies], data.captions[copies], strict=True):
        word = next(w for w in CENTER_HUE if any(w in c.split() for c in captions))
        assert all(f"{word} vase" in c or f"{word} armchair" in c for c in captions)
        assert dominant_color(rgba) == word
    assert all(len(c) == CAPTIONS for c in data.captions)
    words = {word for captions in data.captions[pairs] for c in captions for word in c.split()}
    assert words == {"a", "an", "vase", "armchair", "and", "beside", "next", "to"}
    assert data.names == plain.names == ("vase", "blue vase", "urn", "armchair", *data.names[4:])


def test_pairs_have_the_first_object_on_the_left():
    red, blue = (np.zeros((10, 10, 4), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2], red[..., 3], blue[..., 3] = 255, 255, 255, 255
    pair = side_by_side(red, blue)
    assert pair[5, 0].tolist() == [255, 0, 0, 255] and pair[5, 9].tolist() == [0, 0, 255, 255]
    assert pair[0].max() == 0 and pair[9].max() == 0


def test_packs_are_read_as_they_were_made(tmp_path):
    views = load_object_views(nouns=["vase"]).rgba[0, :81]
    write_sheet(tmp_path / "vase.webp", views, quality=90, alpha_quality=100)
    angles = {"azimuth": [0.0] * 81, "elevation": [0.1] * 81}
    entry = {"noun": "vase", "synonyms": ["urn"], "color": "blue", "file": "vase.webp"} | angles
    (tmp_path / "pack.json").write_text(json.dumps({"objects": [entry]}))
    config = load_config("prior_small").unlock()
    config.data.nouns = ("vase",)
    config.data.extras.recolored = 0.0
    data = load_data(config, tmp_path)
    assert data.rgba.shape == (81, SIZE, SIZE, 4) and data.names == ("vase", "urn")
    assert all("vase" in c or "urn" in c for captions in data.captions for c in captions)
    assert np.abs(data.rgba[..., 3].astype(int) - views[..., 3]).mean() < 2
    with pytest.raises(UserError, match="'sofa'"):
        from_pack(tmp_path, ["sofa"])
    (tmp_path / "pack.json").write_text("{")
    with pytest.raises(UserError, match="no pack of objects"):
        load_data(config, tmp_path)


def test_unknown_noun():
    with pytest.raises(UserError, match="'sofa'"):
        from_library(small_library(), ["sofa"])


@pytest.mark.slow
def test_batches_hold_the_pictures_over_backgrounds():
    """Two half-transparent pictures of one color: what is drawn can be solved for."""
    rgba = np.zeros((2, 8, 8, 4), np.uint8)
    rgba[0], rgba[1, ..., 0], rgba[1, ..., 3] = (0, 255, 0, 255), 255, 128
    data = CaptionedImages(rgba, [["green", "green"], ["red", "red"]])
    tokenizer = train_tokenizer(data.all_captions())
    device = to_device(data, tokenizer, 4)
    x, tokens, attention_mask = jax.jit(draw_batch, static_argnums=2)(
        jax.random.key(0), device, EXACT
    )
    assert x.shape == (64, 4, 4, 3) and float(jnp.abs(x).max()) <= 1.0 + 1e-5
    green = np.asarray(jnp.all(jnp.abs(x - jnp.array([-1.0, 1.0, -1.0])) < 1e-5, (1, 2, 3)))
    red = np.asarray(jnp.all(x[..., 0] >= 2 * 127 / 255 - 1, (1, 2))) & ~green
    assert np.all(green ^ red)
    first = np.asarray(tokens)[:, 0]
    empty = np.asarray(attention_mask).sum(1) == 1
    np.testing.assert_array_equal(first[green & ~empty], tokenizer.token_to_id("green"))
    np.testing.assert_array_equal(first[red & ~empty], tokenizer.token_to_id("red"))
    assert 4 <= empty.sum() <= 30  # a quarter of 64


@pytest.mark.slow
def test_place_without_freedom_is_a_box_filter_at_half_size():
    how = EXACT._replace(batch=1)
    # The antialiased triangle is wider than a box, but keeps the mean of smooth pictures.
    ramp = np.broadcast_to(np.linspace(0, 1, 8)[None, None, :, None], (1, 8, 8, 4))
    placed = np.asarray(PLACE(jax.random.key(0), jnp.asarray(ramp, jnp.float32), how))
    box = ramp.reshape(1, 4, 2, 4, 2, 4).mean((2, 4))
    assert placed.shape == (1, 4, 4, 4)
    np.testing.assert_allclose(placed[:, :, 1:-1], box[:, :, 1:-1], atol=1e-5)


@pytest.mark.slow
def test_shift_moves_the_object():
    image = np.zeros((256, 8, 8, 4), np.float32)
    image[:, 3:5, 3:5] = 1.0
    how = Augmentation(batch=256, image_size=8, scale=0.0, shift=0.25, drop_caption=0.0)
    placed = np.asarray(PLACE(jax.random.key(0), jnp.asarray(image), how))[..., 3]
    center = (placed * np.arange(8)).sum((1, 2)) / placed.sum((1, 2)) - 3.5
    assert -2.05 < center.min() < -1.7 and 1.7 < center.max() < 2.05  # a quarter of 8 pixels
    np.testing.assert_allclose(placed.sum((1, 2)), 4.0, rtol=1e-4)


@pytest.mark.slow
def test_backgrounds_are_half_flat_and_in_range():
    images = np.asarray(jax.jit(backgrounds, static_argnums=(1, 2))(jax.random.key(0), 256, 8))
    assert images.min() >= 0 and images.max() <= 1
    flat = np.ptp(images, axis=(1, 2)).max(-1) < 1e-6
    assert 0.4 < flat.mean() < 0.6
    assert np.corrcoef(images[:, 0, 0, 0], images[:, 0, 0, 1])[0, 1] < 0.2
