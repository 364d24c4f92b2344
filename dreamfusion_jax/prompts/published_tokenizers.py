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
from dreamfusion_jax.io import read_json
from dreamfusion_jax.prompts.tokenizer import load_tokenizer

_LOG = logging.getLogger(__name__)
# What CLIP takes for one word, before it is split into pairs of bytes.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclasses.dataclass(frozen=True)
class PublishedTokenizer:
    """Text to a row of token ids of a fixed length.

    `split` gives the ids of a text without special tokens, `start` is what comes before them
    (none: nothing), `end` after them, `pad` fills the row.
    """

    split: Callable[[str], Sequence[int]]
    start: int | None
    end: int
    pad: int

    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Int[np.ndarray, "rows tokens"], Bool[np.ndarray, "rows tokens"]]:
        """Ids [rows, length] and the mask that is True where a token is.

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
        """All ids of a text, with the special tokens."""
        return [*(() if self.start is None else (self.start,)), *self.split(text), self.end]

    def _report(self, text: str, tokens: list[int], length: int) -> None:
        """Names the words whose tokens do not fit."""
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


def load_published_tokenizer(folder: Path, kind: str) -> PublishedTokenizer:
    """Reads a model's tokenizer folder.

    Args:
      folder: with vocab.json and merges.txt (CLIP), spiece.model (T5), or tokenizer.json.
      kind: "clip" or "t5".

    Raises:
      UserError: the files are missing or damaged.
    """
    return _clip(folder) if kind == "clip" else _t5(folder)


def _clip(folder: Path) -> PublishedTokenizer:
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = _byte_pairs(folder)
    else:
        tokenizer = load_tokenizer(_existing(folder, "vocab.json with merges.txt"))
    start, end = (_id(tokenizer, t, folder) for t in ("<|startoftext|>", "<|endoftext|>"))
    pad = _special(folder, "pad_token", "<|endoftext|>")
    return PublishedTokenizer(_splitter(tokenizer), start, end, _id(tokenizer, pad, folder))


def _byte_pairs(folder: Path) -> tokenizers.Tokenizer:
    try:
        model = models.BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            unk_token="<|endoftext|>",
            end_of_word_suffix="</w>",
        )
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"The tokenizer in {folder} cannot be read ({error}).") from error
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


def _t5(folder: Path) -> PublishedTokenizer:
    path = folder / "spiece.model"
    if path.is_file():
        pieces = sentencepiece.SentencePieceProcessor()
        try:
            pieces.load(str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"The tokenizer {path} is damaged ({error}); fetch it again."
            ) from error
        return PublishedTokenizer(pieces.encode, None, pieces.eos_id(), max(pieces.pad_id(), 0))
    tokenizer = load_tokenizer(_existing(folder, "spiece.model"))
    end, pad = (_id(tokenizer, t, folder) for t in ("</s>", "<pad>"))
    return PublishedTokenizer(_splitter(tokenizer), None, end, pad)


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
            f"The tokenizer in {folder} does not know {token!r}: it is of another kind."
        )
    return found


def _special(folder: Path, name: str, default: str) -> str:
    """A special token of the folder's settings."""
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            value: Any = read_json(folder / file).get(name)
        except (OSError, ValueError):
            continue
        value = value.get("content") if isinstance(value, dict) else value
        if value:
            return value
    return default
