"""Reading a prompt for a prior that knows some nouns: what it names, and what is left out.

The first noun phrase of a prompt says what is to be made: "a cat wearing a hat" is a cat, and "a
house plant" is no house, for what comes last in a phrase is what the others describe.
"""

import dataclasses
import difflib
import re
from collections.abc import Sequence

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.word_vectors import (
    TEMPLATE_WORDS,
    Replacement,
    contains_phrase,
    is_word,
    nearest_known_noun,
    nearest_known_nouns,
    singular,
    words_of,
)

COLOR_WORDS = ("red", "orange", "yellow", "green", "blue", "purple")
_ARTICLES = ("a", "an", "the", "my", "your", "his", "her", "our", "their", "some", "this", "one")
# What is to be made follows these. "a photo of" says nothing of it, "a statue of" does.
_NAMELESS = "photo photograph picture image render rendering model closeup view shot pair kind type"
_MADE_OF = "drawing painting sculpture statue bunch piece slice set stack pile group couple lot "
_MADE_OF += "number loaf toy figurine figure"
_CARRIERS = frozenset(f"{_NAMELESS} {_MADE_OF}".split())
# Where a first noun phrase ends.
_ENDS = frozenset(
    "of in on at with without wearing and or beside near next by under over above behind between "
    "made that which who whose from to into holding for is are was covered painted filled "
    "standing sitting lying riding eating playing dressed carrying against through like as".split()
)
# Nouns that end in -ing, and others after which a phrase does not end.
_NOT_VERBS = frozenset("rocking washing swimming camping rowing writing dining racing "
                       "folding shopping sitting whistling hanging wedding living king ring string "
                       "wing building thing bowling".split())  # fmt: skip
_ADJECTIVES = frozenset(
    "cute beautiful small large big tiny little old new young fluffy shiny happy sad pretty nice "
    "lovely modern antique vintage ancient medieval wooden metal plastic stone glass golden silver "
    "realistic detailed highly very 3d 4k 8k hd photorealistic cartoon style low poly rustic "
    "delicious fresh ripe round square tall short long empty full broken dirty clean soft "
    "comfortable cozy fancy elegant simple classic retro futuristic traditional giant huge mini "
    "miniature cool great".split()
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """`prior_prompt` is what a prior is given in place of a prompt, `name` what that names.

    `replaced` says if that is not what the prompt named; `left_out` are the words that say
    something and are ignored.
    """

    prior_prompt: str
    name: str
    replaced: Replacement | None = None
    left_out: tuple[str, ...] = ()


def read_prompt(prompt: str, names: Sequence[str], *, colors: bool = True) -> Reading:
    """Read a prompt as one that names one of `names`, and perhaps a color.

    Args:
      prompt: in English.
      names: what a prior knows, nouns and their synonyms; none means that it knows everything.
      colors: whether it knows COLOR_WORDS too.

    Raises:
      UserError: the prompt names nothing that is known, or near to it. The message says what is.
    """
    if not names:
        return Reading(prompt, "")
    words = list(words_of(prompt))
    phrase = first_phrase(prompt)
    name, replaced = _known_at_end(phrase, prompt, names), None
    if name is None and phrase:
        replaced = nearest_known_noun(phrase[-1], names)
        name = replaced.name if replaced else None
    if name is None:
        raise UserError(_refusal(prompt, phrase, names))
    described = phrase[:-1] if replaced or " of " in name else phrase[: -len(words_of(name))]
    hues = [word for word in described if word in COLOR_WORDS][:1] if colors else []
    prior_prompt = with_article(" ".join([*hues, name]))
    other = words_of(replaced.word if replaced else "")
    said = {singular(word) for word in (*words_of(prior_prompt), *other)}
    ignored = [w for w in words if singular(w) not in said and w not in _SILENT]
    return Reading(prior_prompt, name, replaced, tuple(dict.fromkeys(ignored)))


_SILENT = TEMPLATE_WORDS | frozenset((*_NAMELESS.split(), *_ARTICLES))
_SILENT |= {"4k", "8k", "hd", "highly", "very"}


def first_phrase(prompt: str) -> list[str]:
    """Return the words of the first noun phrase, what carries it and articles left away."""
    text = re.split(r"[.,;:!?()]\s|[.,;:!?()]$|\s[-\u2013\u2014]\s", prompt + " ")
    words = [w for part in text[:1] for w in words_of(part)] or list(words_of(prompt))
    # "a high quality DSLR photo of a pair of ...": what follows the last carrier of the beginning.
    start = 0
    for i, word in enumerate(words):
        if word == "of" and i and singular(words[i - 1]) in _CARRIERS:
            if not any(w in _ENDS for w in words[start : i - 1]):
                start = i + 1
    words = words[start:]
    phrase: list[str] = []
    for word in words:
        verb = word.endswith("ing") and word not in _NOT_VERBS and len(word) > 4
        if phrase and (word in _ENDS or word in _ARTICLES or verb):
            break
        if word not in _ARTICLES and word not in _ENDS:
            phrase.append(word)
    while len(phrase) > 1 and phrase[-1] in _ADJECTIVES | TEMPLATE_WORDS:
        phrase.pop()
    return phrase


def _known_at_end(phrase: Sequence[str], prompt: str, names: Sequence[str]) -> str | None:
    """Return the longest of the names that end a phrase, or go on with of ("bowl of salad")."""
    found = [
        name
        for name in names
        if _ends_with(phrase, words_of(name))
        or (" of " in name and phrase[-1:] == [words_of(name)[0]] and contains_phrase(prompt, name))
    ]
    return max(found, key=len, default=None)


def _ends_with(phrase: Sequence[str], target: Sequence[str]) -> bool:
    tail = phrase[len(phrase) - len(target) :] if len(target) <= len(phrase) else ()
    return bool(target) and [_number(w) for w in tail] == [_number(w) for w in target]


def _number(word: str) -> str:
    """Return a word without the ending of the plural."""
    if word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return f"{word[:-3]}y" if word.endswith("ies") and len(word) > 4 else singular(word)


def with_article(noun: str) -> str:
    """Return "an armchair" for "armchair"; plurals and what is not counted stay as they are."""
    last = noun.split()[-1].lower()
    if last in UNCOUNTED or (last.endswith("s") and not last.endswith(("ss", "us", "is"))):
        return noun
    vowel = noun[0].lower() in "aeiou" and not noun.lower().startswith(("uni", "eu", "one"))
    return f"{'an' if vowel else 'a'} {noun}"


UNCOUNTED = frozenset("food clothes flowers shelves jewelry trousers shoes bread".split())


def _refusal(prompt: str, phrase: Sequence[str], names: Sequence[str]) -> str:
    word = phrase[-1] if phrase else prompt
    single = [name for name in names if " " not in name]
    typed = difflib.get_close_matches(word, single, 1, 0.78)
    if typed and not is_word(word):
        return (
            f"This prior knows no {word!r}; did you mean {typed[0]!r}? Other objects need a larger "
            "prior: --config.prior.name=FOLDER."
        )
    near = nearest_known_nouns(word, names, 3) or difflib.get_close_matches(word, single, 3, 0.0)
    return (
        f"This prior knows no {word!r}, nor anything like it: the nearest that it knows are "
        f"{', '.join(near)}; other objects need a larger prior: --config.prior.name=FOLDER."
    )
