import collections

import numpy as np
import pytest

from dreamfusion_jax.furniture.captions import CaptionParts, sample_caption, view_words
from dreamfusion_jax.furniture.colors import (
    CENTER_HUE,
    color_words,
    dominant_color,
    hsv_to_rgb,
    recolored,
    rgb_to_hsv,
)
from dreamfusion_jax.furniture.object_views import load_object_views
from dreamfusion_jax.prompts.known_nouns import with_article

BEAR = CaptionParts("teddy bear", ("teddy", "stuffed bear"), "bedroom", "brown")


def captions(parts, count=4000, seed=0, view="side view"):
    rng = np.random.default_rng(seed)
    return [sample_caption(rng, parts, view) for _ in range(count)]


def test_captions_say_what_is_known():
    drawn = captions(BEAR)
    share = collections.Counter()
    for text in drawn:
        share["noun"] += "teddy bear" in text
        share["synonym"] += "teddy bear" not in text and "teddy" in text or "stuffed bear" in text
        share["color"] += "brown" in text
        share["view"] += "side view" in text
        assert not any(word in text for word in ("front", "back", "overhead"))
    share = {name: count / len(drawn) for name, count in share.items()}
    expected = {"noun": 0.75, "synonym": 0.25, "color": 0.5, "view": 9 / 13}
    for name, value in expected.items():
        assert share[name] == pytest.approx(value, abs=0.04), name
    assert "a DSLR photo of a teddy bear, side view" in drawn
    assert "a brown teddy bear" in drawn


def test_captions_are_pure_and_cope_with_missing_parts():
    assert captions(BEAR, 50, seed=3) == captions(BEAR, 50, seed=3)
    assert captions(BEAR, 50, seed=3) != captions(BEAR, 50, seed=4)
    bare = captions(CaptionParts("desk"), 300)
    assert all("desk" in text or text == "" for text in bare)
    assert not any("  " in text or text.endswith(" ") for text in bare)
    # A name that says its color gets no second one.
    assert not any("red red" in t for t in captions(CaptionParts("red car", color="red"), 300))


@pytest.mark.parametrize(
    "noun, expected",
    [
        ("armchair", "an armchair"),
        ("umbrella", "an umbrella"),
        ("unicycle", "a unicycle"),
        ("glass", "a glass"),
        ("cactus", "a cactus"),
        ("sneakers", "sneakers"),
        ("bread", "bread"),
        ("orange armchair", "an orange armchair"),
    ],
)
def test_articles(noun, expected):
    assert with_article(noun) == expected


def test_view_words_as_in_the_paper():
    azimuth = np.radians([0, 44, 46, 90, 180, 226, 300, 359, 10, 10])
    elevation = np.radians([0, 0, 0, 30, 10, 59, 0, 0, 61, 59])
    words = [w.split()[0] for w in view_words(azimuth, elevation)]
    assert words == "front front side side back side side front overhead front".split()


def test_color_words():
    named = {
        "red": (200, 20, 20), "orange": (255, 140, 0), "yellow": (250, 220, 30),
        "green": (30, 140, 40), "blue": (30, 60, 200), "purple": (120, 30, 170),
        "pink": (250, 120, 190), "brown": (110, 65, 30), "beige": (225, 205, 165),
        "black": (15, 15, 15), "white": (245, 245, 245), "grey": (130, 130, 130),
    }  # fmt: skip
    found = color_words(np.array(list(named.values()), np.float32) / 255)
    assert list(found) == list(named)


def test_dominant_color_counts_the_object_only():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., :3] = (0, 0, 255)  # invisible blue
    assert dominant_color(rgba) == ""
    rgba[2:6, 2:6] = (200, 20, 20, 255)
    assert dominant_color(rgba) == "red"
    rgba[2:6, 2:3] = (20, 150, 20, 255)
    rgba[2:6, 3:4] = (20, 20, 200, 255)
    rgba[2:3, 4:6] = (250, 220, 30, 255)
    assert dominant_color(rgba) == ""  # no color has half of it


def test_hsv_round_trip():
    rgb = np.random.default_rng(0).random((500, 3)).astype(np.float32)
    rgb[:3] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(hsv_to_rgb(*rgb_to_hsv(rgb)), rgb, atol=1e-5)


def test_recolored_copies_have_the_word():
    library = load_object_views(
        nouns=["car", "bean bag", "soccer ball"]
    )  # the last is black and white
    for noun in library.rgba:
        for word in CENTER_HUE:
            for view in noun[:4]:
                copy = recolored(view, word)
                assert dominant_color(copy) == word
                np.testing.assert_array_equal(copy[..., 3], view[..., 3])


def test_nothing_becomes_a_color_that_it_cannot_have():
    black = np.zeros((4, 4, 4), np.uint8)
    assert recolored(black, "red") is None  # without a single opaque pixel
