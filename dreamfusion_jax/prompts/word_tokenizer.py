"""The embedded model's tokenizer: one token a word, over the words of its captions."""

import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from jaxtyping import Bool, Int
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import check_is_file, shown_error

_ANY_TEXT = "A photo of 2 chairs, front view; caf\u00e9 \u6905"
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def train_tokenizer(captions: Iterable[str], max_words: int = 4096) -> tokenizers.Tokenizer:
    """Return a word-level tokenizer (lower case, punctuation apart) of the captions' vocabulary."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.Lowercase(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = [PAD, END, UNKNOWN]
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words, special_tokens=specials, show_progress=False
    )
    # Sorted, so that equal counts get the same ids whatever the captions' order.
    tokenizer.train_from_iterator(sorted(captions), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, specials.index(END))]
    )
    return tokenizer


def load_tokenizer(path: str | os.PathLike) -> tokenizers.Tokenizer:
    """Read a Hugging Face tokenizer.json.

    Raises:
      UserError: it is missing or damaged, or cannot split a text.
    """
    path = pathlib.Path(path)
    check_is_file(path)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        tokenizer.encode(_ANY_TEXT)
    except BaseException as error:
        # The library raises bare Exception, and what its Rust code panics with is not even one.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(
            f"cannot read the tokenizer {path}: {shown_error(error)}; fetch it again"
        ) from error
    return tokenizer


def largest_id(tokenizer: tokenizers.Tokenizer) -> int:
    """Return the largest id of a tokenizer's tokens."""
    return max(tokenizer.get_vocab().values(), default=0)


def check_ids(largest: int, count: int, where: str) -> None:
    """Check that an encoder that knows `count` tokens knows those up to the largest id.

    Raises:
      UserError: it does not; `where` names the tokenizer.
    """
    if largest >= count:
        raise UserError(
            f"{where} has the token {largest}, and the text encoder beside it knows {count}: they "
            "are not of one model"
        )


def tokenize(
    tokenizer: tokenizers.Tokenizer, prompts: Sequence[str], length: int
) -> tuple[Int[np.ndarray, "rows tokens"], Bool[np.ndarray, "rows tokens"]]:
    """Return token ids [rows, length], padded, and the mask that is True where a token is.

    Raises UserError for a prompt of more than `length` - 1 tokens.
    """
    ids = np.full((len(prompts), length), tokenizer.token_to_id(PAD) or 0, np.int32)
    mask = np.zeros((len(prompts), length), bool)
    for row, prompt in enumerate(prompts):
        tokens = tokenizer.encode(prompt.replace("_", " ")).ids
        if len(tokens) > length:
            raise UserError(
                f"the text {prompt[:60]!r} has {len(tokens) - 1} words, and this model reads at "
                f"most {length - 1}: shorten it, or choose a larger model"
            )
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = True
    return ids, mask


def unknown_words(tokenizer: tokenizers.Tokenizer, prompt: str) -> list[str]:
    """Return the words of the prompt that are not in the vocabulary, in order, each once."""
    normalizer = tokenizer.normalizer
    plain = prompt if normalizer is None else normalizer.normalize_str(prompt)
    words = re.findall(r"[^\W_]+", plain)
    return list(dict.fromkeys(w for w in words if tokenizer.token_to_id(w) is None))
