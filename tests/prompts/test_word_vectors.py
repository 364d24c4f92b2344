import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.prompts import word_vectors
from dreamfusion_jax.prompts.word_vectors import contains_phrase, nearest_known_noun

NAMES = tuple(choice.noun for choice in CHOICES)


def test_synonyms_are_near_to_their_nouns():
    """The library's own synonyms, untold: hardly one leads to a wrong noun."""
    asked = [
        (synonym, choice.noun)
        for choice in CHOICES
        for synonym in choice.synonyms
        if " " not in synonym
        and not any(contains_phrase(synonym, n) or n in synonym for n in NAMES)
    ]
    found = [nearest_known_noun(synonym, NAMES) for synonym, _ in asked]
    right = [f is not None and f.name == noun for f, (_, noun) in zip(found, asked, strict=True)]
    wrong = [f is not None and f.name != noun for f, (_, noun) in zip(found, asked, strict=True)]
    assert len(asked) > 40 and np.mean(right) > 0.2 and np.mean(wrong) < 0.1


def test_names_are_whole_words():
    assert contains_phrase("a DSLR photo of Teddy Bears", "teddy bear")
    assert not contains_phrase("a tablecloth", "table") and not contains_phrase(
        "a bear", "teddy bear"
    )


@pytest.mark.parametrize("content", [b"no", b"", word_vectors.WORD_VECTORS.read_bytes()[:5000]])
def test_a_damaged_table_is_a_sentence(tmp_path, monkeypatch, content):
    (tmp_path / "vectors.npz").write_bytes(content)
    monkeypatch.setattr(word_vectors, "WORD_VECTORS", tmp_path / "vectors.npz")
    word_vectors._table.cache_clear()
    with pytest.raises(UserError, match="word vectors"):
        nearest_known_noun("kitty", NAMES)
    word_vectors._table.cache_clear()
