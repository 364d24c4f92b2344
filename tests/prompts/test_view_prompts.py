import math

import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.view_prompts import FINE_WORDS, VIEW_WORDS, ViewPrompts, select_rows
from dreamfusion_jax.types import TextEmbeddings


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


def test_prompts_end_with_the_empty_one():
    assert ViewPrompts().prompts("a cat") == [*(f"a cat, {w}" for w in VIEW_WORDS), ""]
    assert ViewPrompts().prompts("a cat is eating.")[0] == "a cat is eating, front view"
    assert ViewPrompts("none").prompts("a cat is eating.")[0] == "a cat is eating."
    assert len(ViewPrompts("fine").prompts("a cat")) == 25
    assert ViewPrompts("none").prompts("a cat", "a dog") == ["a cat", "a dog", ""]
    angles = jnp.linspace(0, 2 * math.pi, 7)
    np.testing.assert_array_equal(ViewPrompts("none").index(angles, angles), 0)


def test_rows_of_each_scene_are_selected_with_the_empty_prompt_last():
    embeddings = TextEmbeddings(jnp.arange(5.0).reshape(5, 1, 1), jnp.ones((5, 1), bool))
    rows = select_rows(embeddings, jnp.array([[2, 0]]))
    np.testing.assert_array_equal(rows.states[:, 0, 0], [2, 0, 4])
    rows = select_rows(embeddings, jnp.array([[1, 0], [0, 1]]))
    np.testing.assert_array_equal(rows.states[:, 0, 0], [1, 0, 2, 3, 4])


def test_unknown_kind_is_refused():
    with pytest.raises(UserError, match="'octants'"):
        ViewPrompts("octants")
