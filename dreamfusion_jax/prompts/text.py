"""Prompts as users give them: one, or a file of them."""

import re
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_text

MAX_CHARACTERS = 400


def check_prompt(prompt: str) -> None:
    """Raise a UserError for a prompt that is empty, too long or no text."""
    if not prompt.strip():
        raise UserError('The prompt is empty; say what to make, for example "a teddy bear".')
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # bytes of another encoding, as the shell gave them
        raise UserError(f"The prompt {prompt!r} is not UTF-8 text.") from error
    if len(prompt) > MAX_CHARACTERS:
        raise UserError(
            f"The prompt has {len(prompt)} characters; text encoders read some 70 words, "
            f"so give at most {MAX_CHARACTERS} characters."
        )


def slug(prompt: str) -> str:
    """Return the name of a prompt's folder: lower case, with hyphens.

    However accents are written, the name is the same; pictures (emoji) have theirs in words.
    """
    text = unicodedata.normalize("NFC", prompt).lower()
    spelled = (f" {unicodedata.name(c, '')} ".lower() if _is_symbol(c) else c for c in text)
    words = re.sub(r"[\W_]+", "-", "".join(spelled)).strip("-")
    if not words:
        return f"prompt-{zlib.crc32(text.encode()):08x}"
    # 80 characters may be 320 bytes; most file systems take 255.
    return words[:80].encode()[:200].decode(errors="ignore").strip("-")


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) == "So"


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Return a text file's lines with their numbers, without empty ones and comments (#).

    Raises:
      UserError: the file cannot be read or holds no line.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"The prompts in {path} cannot be read: {reason}.") from error
    numbered = [(i, line.strip()) for i, line in enumerate(lines, 1)]
    chosen = [(i, line) for i, line in numbered if line and not line.startswith("#")]
    if not chosen:
        raise UserError(f"{path} holds no prompt; write one a line.")
    return chosen


def check_prompts(prompts: Sequence[str], places: Sequence[str] = ()) -> None:
    """Raise a UserError that names the place of a bad prompt, or of two in one folder."""
    if isinstance(prompts, str) or not prompts:
        raise UserError("Give a list of prompts, at least one.")
    places = places or [f"prompt {i}" for i in range(1, len(prompts) + 1)]
    seen: dict[str, str] = {}
    for place, prompt in zip(places, prompts, strict=True):
        try:
            check_prompt(prompt)
        except UserError as error:
            raise UserError(f"{place[0].upper()}{place[1:]}: {error}") from error
        first = seen.setdefault(slug(prompt), place)
        if first != place:
            raise UserError(
                f"{first[0].upper()}{first[1:]} and {place} are the same prompt, or too alike to "
                f"have folders of their own ({slug(prompt)}); remove one of them."
            )
