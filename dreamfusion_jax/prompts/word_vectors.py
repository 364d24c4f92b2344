"""Which of the nouns that a prior knows is nearest in meaning to a word.

The word vectors are made from a text model by launch/make_word_vectors.py and ship with the
package: 96 numbers of 8 bits for each of 21,000 English words.
"""

import functools
import pathlib
import re
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dreamfusion_jax.errors import UserError

WORD_VECTORS = pathlib.Path(__file__).parent / "word_vectors.npz"
NEAR = 0.71  # cosine: below it, two words are not of one kind of thing
# Words of the usual prompts that name nothing.
TEMPLATE_WORDS = frozenset(
    "a an the of and with photo dslr picture image render rendering 3d model high quality "
    "detailed realistic zoomed out front side back left right overhead view from above at eye "
    "level".split()
)


class Replacement(NamedTuple):
    """`word` of a prompt is read as `name`, whose cosine to it is `nearness`."""

    word: str
    name: str
    nearness: float


def singular(word: str) -> str:
    """Return a plural without its s."""
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


@functools.lru_cache(maxsize=4096)  # the same few names, for thousands of pictures
def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, in any script; a possessive loses its 's."""
    return tuple(re.findall(r"[^\W_]+", re.sub(r"['\u2019]s\b", "", text.lower())))


def contains_phrase(prompt: str, name: str) -> bool:
    """Return whether a prompt has a name in it, as whole words, in either number."""
    words, target = ([singular(w) for w in words_of(text)] for text in (prompt, name))
    span = len(target)
    return bool(target) and any(words[i : i + span] == target for i in range(len(words) - span + 1))


def is_word(word: str) -> bool:
    """Return whether a word has a vector: what has none may be mistyped."""
    return _row(word, _table()[0]) is not None


def nearest_known_noun(word: str, names: Sequence[str]) -> Replacement | None:
    """Return the name of one word that is nearest in meaning, None where none is near.

    Names of several words do not count: their mean is near to words that only describe.
    """
    found = _ranked(word, [name for name in names if len(words_of(name)) == 1])
    if not found or found[0][1] < NEAR:
        return None
    name, cosine = found[0]
    return Replacement(word, name, round(cosine, 2))


def nearest_known_nouns(word: str, names: Sequence[str], count: int) -> list[str]:
    """Return the names that are nearest to a word, however far; [] for an unknown word."""
    return [name for name, _ in _ranked(word, [n for n in names if len(words_of(n)) == 1])[:count]]


def _ranked(word: str, names: Sequence[str]) -> list[tuple[str, float]]:
    index, vectors = _table()
    row = _row(word, index)
    known = [(name, v) for name in names if (v := _vector(name, index, vectors)) is not None]
    if row is None or not known:
        return []
    cosines = np.stack([v for _, v in known]) @ vectors[row]
    return [(known[i][0], float(cosines[i])) for i in np.argsort(-cosines)]


def save_word_vectors(
    words: Sequence[str], vectors: Float[np.ndarray, "words width"], path: pathlib.Path
) -> None:
    """Write the table; each vector keeps its direction only, in 8 bits a number."""
    scaled = np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    letters = np.frombuffer("\n".join(words).encode(), np.uint8)
    np.savez_compressed(path, words=letters, vectors=scaled.astype(np.int8))


@functools.lru_cache(maxsize=1)
def _table() -> tuple[dict[str, int], np.ndarray]:
    try:
        with np.load(WORD_VECTORS) as stored:
            words = stored["words"].tobytes().decode().split("\n")
            vectors = stored["vectors"].astype(np.float32)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"The word vectors {WORD_VECTORS} are missing or damaged: install the package again, "
            "or set --config.prior.replace_unknown_nouns=False."
        ) from error
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {word: i for i, word in enumerate(words)}, vectors


def _row(word: str, index: dict[str, int]) -> int | None:
    return index.get(word, index.get(singular(word)))


def _vector(name: str, index: dict[str, int], vectors: np.ndarray) -> np.ndarray | None:
    rows = [row for w in words_of(name) if (row := _row(w, index)) is not None]
    if not rows:
        return None
    mean = vectors[rows].mean(0)
    return mean / np.linalg.norm(mean)
