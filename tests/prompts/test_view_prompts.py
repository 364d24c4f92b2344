import math

import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.view_prompts import FINE_WORDS, VIEW_WORDS, ViewPrompts, select_rows
from dreamfusion_jax.types import Conditioning


@pytest.mark.parametrize(
    ("azimuth", "elevation", "coarse", "fine"),
    [
        (0, 0, "front view", "front view at eye level"),
        (44, 30, "front view", "front left view from above"),
        (46, -10, "side view", "front left view at eye level"),
        (90, 10, "side view", "left side view at eye level"),
        (180, 59, "back view", "back view from above"),
        (226, 10, "side view", "back right view at eye level"),
        (270, 40, "side view", "right side view from above"),
        (359, 61, "overhead view", "front overhead view"),
        (120, 90, "overhead view", "back left overhead view"),
    ],
)
def test_words_follow_the_camera(azimuth, elevation, coarse, fine):
    angles = jnp.radians(jnp.array([azimuth])), jnp.radians(jnp.array([elevation]))
    assert VIEW_WORDS[int(ViewPrompts("paper").index(*angles)[0])] == coarse
    assert FINE_WORDS[int(ViewPrompts("fine").index(*angles)[0])] == fine


def test_a_prompt_has_every_view_word():
    assert ViewPrompts().of("a cat") == [f"a cat, {w}" for w in VIEW_WORDS]
    assert ViewPrompts().of("a cat is eating.")[0] == "a cat is eating, front view"
    assert ViewPrompts("none").of("a cat is eating.") == ["a cat is eating."]
    assert len(ViewPrompts("fine").of("a cat")) == 24
    angles = jnp.linspace(0, 2 * math.pi, 7)
    np.testing.assert_array_equal(ViewPrompts("none").index(angles, angles), 0)


def test_views_without_texture_have_prompts_of_their_own():
    for kind in ("none", "paper", "fine"):
        plain, both = ViewPrompts(kind), ViewPrompts(kind, "white clay")
        assert both.of("a cat.")[: len(plain.of("a cat."))] == plain.of("a cat.")
        azimuth, elevation = jnp.linspace(0, 6, 8), jnp.linspace(0, 1.5, 8)
        textureless = jnp.arange(8) % 2.0
        found = both.index(azimuth, elevation, textureless)
        for i, index in enumerate(plain.index(azimuth, elevation)):
            expected = plain.of("a cat.")[int(index)]
            if i % 2:
                expected = f"{expected.rstrip('.')}, white clay"
            assert both.of("a cat.")[int(found[i])] == expected
        np.testing.assert_array_equal(
            plain.index(azimuth, elevation, textureless), plain.index(azimuth, elevation)
        )


def test_rows_of_each_view_are_selected_and_single_ones_repeated():
    def rows_of(states):
        return Conditioning(states, jnp.ones(states.shape[:-1], bool))

    views, single = jnp.arange(4.0).reshape(2, 2, 1, 1), jnp.array([8.0, 9.0]).reshape(2, 1, 1, 1)
    embeddings = {"positive": rows_of(views), "empty": rows_of(single)}
    rows = select_rows(embeddings, jnp.array([[1, 0, 0], [0, 1, 1]]))
    np.testing.assert_array_equal(rows["positive"].states[:, 0, 0], [1, 0, 0, 2, 3, 3])
    np.testing.assert_array_equal(rows["empty"].states[:, 0, 0], [8, 8, 8, 9, 9, 9])
    assert rows["empty"].mask.shape == (6, 1)


def test_unknown_kind_is_refused():
    with pytest.raises(UserError, match="'octants'"):
        ViewPrompts("octants")
