"""What a model's files say, checked before anything is made of it.

A config.json may be damaged or of another model: `check_fields` compares it with a table of fields,
so that what comes after can rely on kinds and ranges.
"""

import os
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import parse_json, read_text

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LARGEST_CONFIG = 2**22  # bytes
_WIDEST = 2**16
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


class Kind(NamedTuple):
    """What a field may hold: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def whole(low: int = 1, high: int = _WIDEST) -> Kind:
    """Return the kind of the whole numbers in [low, high]."""
    words = f"a whole number from {low} to {high}"
    return Kind(words, lambda value: type(value) is int and low <= value <= high)


def number(low: float, high: float) -> Kind:
    """Return the kind of the numbers in [low, high]."""

    def holds(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high

    return Kind(f"a number from {low:g} to {high:g}", holds)


def one_of(*values: str | None) -> Kind:
    """Return the kind of these words (None: null)."""
    words = ", ".join("null" if value is None else repr(value) for value in values)
    return Kind(
        f"one of {words}",
        lambda value: isinstance(value, str | None) and value in values,
    )


def each(kind: Kind, most: int, least: int = 1) -> Kind:
    """Return the kind of the lists of `least` to `most` values of a kind."""

    def holds(value: Any) -> bool:
        fits = isinstance(value, list | tuple) and least <= len(value) <= most
        return fits and all(map(kind.holds, value))

    return Kind(f"a list of {least} to {most} values, each {kind.words}", holds)


def either(*kinds: Kind) -> Kind:
    """Return the kind of what is of one of these kinds."""
    return Kind(
        " or ".join(kind.words for kind in kinds),
        lambda value: any(kind.holds(value) for kind in kinds),
    )


NULL = Kind("null", lambda value: value is None)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
WORD = Kind("a text", lambda value: is_text(value) and len(value) < 1000)
TABLE = Kind("a table", lambda value: isinstance(value, dict))


def is_text(value: Any) -> bool:
    """Return whether a value is a text that can be encoded, as half a UTF-16 pair cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, whatever it is."""
    return _SHORT.repr(value)


def check_fields(config: Any, kinds: Mapping[str, Kind], where: str) -> None:
    """Check those of a config's fields that have a kind; others may hold anything.

    Args:
      config: what the file holds.
      kinds: of the fields; a field that is left out is not checked.
      where: names the config in the message.

    Raises:
      UserError: a field holds something else, or `config` is no table.
    """
    if not isinstance(config, Mapping):
        raise UserError(f"{where} is {shown(config)} in place of a table; fetch it again")
    for field, kind in kinds.items():
        if field in config and not kind.holds(config[field]):
            raise UserError(
                f"{where} has {field}={shown(config[field])}, which must be {kind.words}; "
                "fetch it again"
            )


def check_divides(field: str, divisor: int, what: str, number: int) -> None:
    """Raise a UserError where a field does not divide a number; `field` starts the message."""
    if number % divisor:
        raise UserError(
            f"{field}={divisor}, which does not divide {what} ({number}); fetch it again"
        )


def read_config(path: Path) -> dict[str, Any]:
    """Return the table in a JSON file of at most 4 MB.

    Raises:
      OSError: it cannot be read.
      UserError: it is no JSON, no table, or a Git LFS pointer.
    """
    try:
        text = read_text(path, _LARGEST_CONFIG)
        check_no_pointer(path, text[: len(LFS_POINTER)].encode(errors="replace"))
        return parse_json(text)
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({shown_error(error)}); fetch it again"
        ) from error


def shown_error(error: BaseException) -> str:
    """Return an exception's message, cut where it repeats much of a file."""
    text = str(error)
    return text if len(text) <= 200 else f"{text[:200]}..."


def check_no_pointer(path: Path, start: bytes) -> None:
    """Raise a UserError where a file that starts so is what git leaves in place of a large one."""
    if start.startswith(LFS_POINTER):
        raise UserError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in the "
            "repository that it was cloned with"
        )


def check_is_file(path: Path) -> None:
    """Check that a file can be handed to a library that reads files by their names.

    Raises:
      UserError: it is missing, no regular file, or a Git LFS pointer.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} cannot be read (it is missing, or no file); fetch it again")
    try:
        with open(path, "rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fetch it again") from error
    check_no_pointer(path, start)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, [] where there is none.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read ({error.strerror}).") from error
