import numpy as np
import pytest

from dreamfusion_jax.datasets.library_objects import CHOICES
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts import meaning
from dreamfusion_jax.prompts.meaning import mentions, to_known

NAMES = tuple(choice.noun for choice in CHOICES)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a kitty", "a cat"),
        ("a photo of an automobile, beautiful", "a photo of a car, beautiful"),
        ("two pups", "two dog"),
        ("a boy beside a kitty", "a boy beside a cat"),
    ],
)
def test_unknown_nouns_become_the_nearest_known_ones(prompt, told):
    replaced_prompt, replaced = to_known(prompt, NAMES)
    assert replaced_prompt == told and replaced.nearness >= meaning.NEAR


@pytest.mark.parametrize(
    "prompt", ["a cat", "a fluffy cat", "a dragon", "a zzqx", "a DSLR photo of", "two cats"]
)
def test_the_rest_stays_as_it_is(prompt):
    assert to_known(prompt, NAMES) == (prompt, None)


def test_a_prior_that_knows_everything_is_told_the_prompt():
    assert to_known("a kitty", ()) == ("a kitty", None)


def test_synonyms_are_near_to_their_nouns():
    """The library's own synonyms, without being told them: most lead to the right noun."""
    asked = [
        (synonym, choice.noun)
        for choice in CHOICES
        for synonym in choice.synonyms
        if " " not in synonym and not any(mentions(synonym, n) or n in synonym for n in NAMES)
    ]
    found = [to_known(f"a {synonym}", NAMES)[1] for synonym, _ in asked]
    right = [f is not None and f.name == noun for f, (_, noun) in zip(found, asked, strict=True)]
    wrong = [f is not None and f.name != noun for f, (_, noun) in zip(found, asked, strict=True)]
    assert len(asked) > 40 and np.mean(right) > 0.5 and np.mean(wrong) < 0.2


def test_names_are_whole_words():
    assert mentions("a DSLR photo of Teddy Bears", "teddy bear")
    assert not mentions("a tablecloth", "table") and not mentions("a bear", "teddy bear")


def test_an_underscore_parts_words():
    prompt, found = to_known("an_old_kitty", NAMES)
    assert prompt == "an_old_cat" and found.word == "kitty"


@pytest.mark.parametrize("content", [b"no", b"", meaning.WORD_VECTORS.read_bytes()[:5000]])
def test_a_damaged_table_is_a_sentence(tmp_path, monkeypatch, content):
    (tmp_path / "vectors.npz").write_bytes(content)
    monkeypatch.setattr(meaning, "WORD_VECTORS", tmp_path / "vectors.npz")
    meaning._table.cache_clear()
    with pytest.raises(UserError, match="word vectors"):
        to_known("a kitty", NAMES)
    meaning._table.cache_clear()
