import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.datasets.library import Library
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.tokenizer import train_tokenizer
from dreamfusion_jax.train.prior_data import (
    CAPTIONS,
    Augmentation,
    CaptionedImages,
    backgrounds,
    draw_batch,
    from_library,
    place,
    to_device,
)

EXACT = Augmentation(batch=64, image_size=4, scale=0.0, shift=0.0, drop_caption=0.25)


def small_library():
    rgba = np.zeros((2, 3, 64, 64, 4), np.uint8)
    rgba[:, 1] = 200
    azimuth = np.array([[0.0, np.pi / 2, np.pi]] * 2, np.float32)
    elevation = np.array([[0.2, 0.2, 1.4]] * 2, np.float32)
    synonyms = {"teapot": ("tea pot",), "apple": ()}
    colours = {"teapot": "white", "apple": ""}
    return Library(("teapot", "apple"), rgba, azimuth, elevation, 1.5, 1.1, synonyms, colours)


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


def test_unknown_noun():
    with pytest.raises(UserError, match="'sofa'"):
        from_library(small_library(), ["sofa"])


@pytest.mark.slow
def test_batches_hold_the_pictures_over_backgrounds():
    """Two half-transparent pictures of one colour: what is drawn can be solved for."""
    rgba = np.zeros((2, 8, 8, 4), np.uint8)
    rgba[0], rgba[1, ..., 0], rgba[1, ..., 3] = (0, 255, 0, 255), 255, 128
    data = CaptionedImages(rgba, [["green", "green"], ["red", "red"]])
    tokenizer = train_tokenizer(data.all_captions())
    device = to_device(data, tokenizer, 4)
    x, tokens, present = draw_batch(jax.random.key(0), device, EXACT)
    assert x.shape == (64, 4, 4, 3) and float(jnp.abs(x).max()) <= 1.0 + 1e-5
    green = np.asarray(jnp.all(jnp.abs(x - jnp.array([-1.0, 1.0, -1.0])) < 1e-5, (1, 2, 3)))
    red = np.asarray(jnp.all(x[..., 0] >= 2 * 127 / 255 - 1, (1, 2))) & ~green
    assert np.all(green ^ red)
    first = np.asarray(tokens)[:, 0]
    empty = np.asarray(present).sum(1) == 1
    np.testing.assert_array_equal(first[green & ~empty], tokenizer.token_to_id("green"))
    np.testing.assert_array_equal(first[red & ~empty], tokenizer.token_to_id("red"))
    assert 4 <= empty.sum() <= 30  # a quarter of 64


@pytest.mark.slow
def test_place_without_freedom_is_a_box_filter_at_half_size():
    rng = np.random.default_rng(0)
    pictures = rng.random((1, 8, 8, 4)).astype(np.float32)
    how = EXACT._replace(batch=1)
    smooth = np.asarray(place(jax.random.key(0), jnp.asarray(pictures), how))
    # The antialiased triangle is wider than a box, but keeps the mean of smooth pictures.
    ramp = np.broadcast_to(np.linspace(0, 1, 8)[None, None, :, None], (1, 8, 8, 4))
    placed = np.asarray(place(jax.random.key(0), jnp.asarray(ramp, jnp.float32), how))
    box = ramp.reshape(1, 4, 2, 4, 2, 4).mean((2, 4))
    np.testing.assert_allclose(placed[:, :, 1:-1], box[:, :, 1:-1], atol=1e-5)
    assert smooth.shape == (1, 4, 4, 4)


@pytest.mark.slow
def test_shift_moves_the_object():
    picture = np.zeros((256, 8, 8, 4), np.float32)
    picture[:, 3:5, 3:5] = 1.0
    how = Augmentation(batch=256, image_size=8, scale=0.0, shift=0.25, drop_caption=0.0)
    placed = np.asarray(place(jax.random.key(0), jnp.asarray(picture), how))[..., 3]
    centre = (placed * np.arange(8)).sum((1, 2)) / placed.sum((1, 2)) - 3.5
    assert -2.05 < centre.min() < -1.7 and 1.7 < centre.max() < 2.05  # a quarter of 8 pixels
    np.testing.assert_allclose(placed.sum((1, 2)), 4.0, rtol=1e-4)


@pytest.mark.slow
def test_backgrounds_are_half_flat_and_in_range():
    images = np.asarray(backgrounds(jax.random.key(0), 256, 8))
    assert images.min() >= 0 and images.max() <= 1
    flat = np.ptp(images, axis=(1, 2)).max(-1) < 1e-6
    assert 0.4 < flat.mean() < 0.6
    assert np.corrcoef(images[:, 0, 0, 0], images[:, 0, 0, 1])[0, 1] < 0.2
