"""Nouns that a prior never saw, replaced by what it knows that is nearest in meaning.

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

WORD_VECTORS = pathlib.Path(__file__).parent.parent / "priors" / "word_vectors" / "vectors.npz"
NEAR = 0.6  # cosine: below it, two words have too little in common
# Words of the usual prompts that name nothing.
TEMPLATE_WORDS = frozenset(
    "a an the of and with photo dslr picture image render rendering 3d model high quality "
    "detailed realistic zoomed out front side back left right overhead view from above at eye "
    "level".split()
)
# Words of other prompts that name nothing either.
_NAMELESS = TEMPLATE_WORDS | set("in on to by for beautiful cute small large big tiny old".split())


class Replacement(NamedTuple):
    """`word` of a prompt is read as `name`, whose cosine to it is `nearness`."""

    word: str
    name: str
    nearness: float


def singular(word: str) -> str:
    """A plural without its s."""
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


@functools.lru_cache(maxsize=4096)  # the same few names, for thousands of pictures
def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, in any script; a possessive loses its 's."""
    return tuple(re.findall(r"[^\W_]+", re.sub(r"['\u2019]s\b", "", text.lower())))


def mentions(prompt: str, name: str) -> bool:
    """Whether a prompt has a name in it, as whole words, in either number."""
    words, target = ([singular(w) for w in words_of(text)] for text in (prompt, name))
    span = len(target)
    return bool(target) and any(words[i : i + span] == target for i in range(len(words) - span + 1))


def to_known(prompt: str, names: Sequence[str]) -> tuple[str, Replacement | None]:
    """A prompt that names one of `names`, and what was replaced for that.

    A prompt that already names one, or has no word near to any, stays as it is. Otherwise the
    one word that is nearest to a name is replaced by it.

    Args:
      prompt: in English.
      names: what a prior knows; none means that it knows everything.
    """
    if not names or any(mentions(prompt, name) for name in names):
        return prompt, None
    index, vectors = _table()
    words = [w for w in words_of(prompt) if w not in _NAMELESS and _row(w, index) is not None]
    known = [(name, v) for name in names if (v := _vector(name, index, vectors)) is not None]
    if not words or not known:
        return prompt, None
    own = np.stack([vectors[_row(word, index)] for word in words])
    cosines = own @ np.stack([v for _, v in known]).T
    word, name = np.unravel_index(cosines.argmax(), cosines.shape)
    found = Replacement(words[word], known[name][0], round(float(cosines[word, name]), 2))
    if found.nearness < NEAR:
        return prompt, None
    pattern = rf"(?<![^\W_])(?:(an?)[\s_]+)?{re.escape(found.word)}(?![^\W_])"
    return re.sub(pattern, _with_article(found.name), prompt, count=1, flags=re.I), found


def _with_article(name: str):
    def replaced(match: re.Match) -> str:
        if match[1] is None:
            return name
        return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

    return replaced


def save_word_vectors(
    words: Sequence[str], vectors: Float[np.ndarray, "words width"], path: pathlib.Path
) -> None:
    """Writes the table; each vector keeps its direction only, in 8 bits a number."""
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
            "or set --config.replace_unknown_nouns=False."
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
