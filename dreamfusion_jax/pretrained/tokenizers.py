"""The tokenizers of published text encoders, from the files beside them."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import tokenizers
from jaxtyping import Bool, Int
from tokenizers import Regex, models, normalizers, pre_tokenizers

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_json, read_text
from dreamfusion_jax.model_files import (
    NULL,
    WORD,
    check_fields,
    check_is_file,
    either,
    is_text,
    read_config,
    shown,
    shown_error,
    whole,
)
from dreamfusion_jax.prompts.word_tokenizer import largest_id, load_tokenizer

_LOG = logging.getLogger(__name__)
_LARGEST_ID = 2**24
# What CLIP takes for one word, before it is split into pairs of bytes.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclasses.dataclass(frozen=True)
class HFTokenizer:
    """Text to a row of token ids of a fixed length.

    `split` gives the ids of a text without special tokens, `start` is what comes before them
    (none: nothing), `end` after them, `pad` fills the row. `largest` is the largest id.
    """

    split: Callable[[str], Sequence[int]]
    start: int | None
    end: int
    pad: int
    largest: int

    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Int[np.ndarray, "rows tokens"], Bool[np.ndarray, "rows tokens"]]:
        """Return ids [rows, length] and the mask that is True where a token is.

        What is longer is cut, and a warning says what was left out.
        """
        ids = np.full((len(texts), length), self.pad, np.int32)
        mask = np.zeros((len(texts), length), bool)
        for row, text in enumerate(texts):
            tokens = self.ids(text)
            if len(tokens) > length:
                self._report(text, tokens, length)
                tokens = [*tokens[: length - 1], self.end]
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        return ids, mask

    def ids(self, text: str) -> list[int]:
        """Return all ids of a text, with the special tokens."""
        return [*(() if self.start is None else (self.start,)), *self.split(text), self.end]

    def _report(self, text: str, tokens: list[int], length: int) -> None:
        """Name the words whose tokens do not fit."""
        words = text.split()
        fitting = len(words)
        while fitting and len(self.ids(" ".join(words[:fitting]))) > length:
            fitting -= 1
        _LOG.warning(
            "The prompt has %d tokens, of which the text encoder reads %d; it does not see: %s",
            len(tokens),
            length,
            " ".join(words[fitting:]),
        )


def load_hf_tokenizer(folder: Path, kind: str) -> HFTokenizer:
    """Read a model's tokenizer folder.

    Args:
      folder: with vocab.json and merges.txt (CLIP), spiece.model (T5), or tokenizer.json.
      kind: "clip" or "t5".

    Raises:
      UserError: the files are missing or damaged.
    """
    return _clip(folder) if kind == "clip" else _t5(folder)


def _clip(folder: Path) -> HFTokenizer:
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = _byte_pairs(folder)
    else:
        tokenizer = load_tokenizer(_existing(folder, "vocab.json with merges.txt"))
    start, end = (_id(tokenizer, t, folder) for t in ("<|startoftext|>", "<|endoftext|>"))
    pad = _id(tokenizer, _special(folder, "pad_token", "<|endoftext|>"), folder)
    return HFTokenizer(_splitter(tokenizer), start, end, pad, largest_id(tokenizer))


def _byte_pairs(folder: Path) -> tokenizers.Tokenizer:
    vocabulary, merges = _vocabulary(folder / "vocab.json"), _merges(folder / "merges.txt")
    for pair in merges:
        if missing := [part for part in (*pair, "".join(pair)) if part not in vocabulary]:
            raise UserError(
                f"The tokenizer in {folder} merges to {shown(missing[0])}, which its vocab.json "
                "does not have; fetch it again."
            )
    model = models.BPE(vocabulary, merges, unk_token="<|endoftext|>", end_of_word_suffix="</w>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def _vocabulary(path: Path) -> dict[str, int]:
    """Return the id of each token."""
    check_is_file(path)
    vocabulary = _read(path, read_json)
    kind = whole(0, _LARGEST_ID)
    sound = all(is_text(name) and kind.holds(number) for name, number in vocabulary.items())
    if not sound or len(set(vocabulary.values())) != len(vocabulary):
        raise UserError(
            f"The tokenizer {path} cannot be read: its ids are not whole numbers, each of one "
            "token; fetch it again."
        )
    return vocabulary


def _merges(path: Path) -> list[tuple[str, str]]:
    """Return the pairs in the order in which they are merged."""
    check_is_file(path)
    lines = _read(path, read_text).split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    if any(len(pair) != 2 for pair in pairs):
        raise UserError(
            f"The tokenizer {path} cannot be read: a line is no pair of tokens; fetch it again."
        )
    return pairs


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The tokenizer {path} cannot be read ({shown_error(error)}); fetch it again."
        ) from error


def _t5(folder: Path) -> HFTokenizer:
    path = folder / "spiece.model"
    if path.is_file():
        check_is_file(path)
        pieces = sentencepiece.SentencePieceProcessor()
        try:
            pieces.load(str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"The tokenizer {path} is damaged ({shown_error(error)}); fetch it again."
            ) from error
        if pieces.eos_id() < 0:
            raise UserError(f"The tokenizer {path} is damaged: no token ends a text.")
        pad, largest = max(pieces.pad_id(), 0), pieces.get_piece_size() - 1
        return HFTokenizer(pieces.encode, None, pieces.eos_id(), pad, largest)
    tokenizer = load_tokenizer(_existing(folder, "spiece.model"))
    end, pad = (_id(tokenizer, t, folder) for t in ("</s>", "<pad>"))
    return HFTokenizer(_splitter(tokenizer), None, end, pad, largest_id(tokenizer))


def _existing(folder: Path, other: str) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder} has neither {other} nor tokenizer.json; fetch the tokenizer.")
    return path


def _splitter(tokenizer: tokenizers.Tokenizer) -> Callable[[str], list[int]]:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def _id(tokenizer: tokenizers.Tokenizer, token: str, folder: Path) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise UserError(
            f"The tokenizer in {folder} does not know {shown(token)}: it is of another kind."
        )
    return found


def _special(folder: Path, name: str, default: str) -> str:
    """Return a special token of the folder's settings."""
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            value = read_config(folder / file).get(name)
        except OSError:
            continue
        value = value.get("content") if isinstance(value, dict) else value
        check_fields({name: value}, {name: either(WORD, NULL)}, f"{folder}/{file}")
        if value:
            return value
    return default
