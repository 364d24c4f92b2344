import json

import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.word_tokenizer import (
    load_tokenizer,
    tokenize,
    train_tokenizer,
    unknown_words,
)

CAPTIONS = ["a Teddy bear, front view", "a teapot", "a photo of a teapot, side view"]


def test_words_and_punctuation_are_tokens():
    tokenizer = train_tokenizer(CAPTIONS)
    ids, mask = tokenize(tokenizer, ["a TEAPOT, front view", ""], 8)
    words = [tokenizer.id_to_token(int(i)) for i in ids[0]]
    assert words == ["a", "teapot", ",", "front", "view", "</s>", "<pad>", "<pad>"]
    np.testing.assert_array_equal(
        *(tokenize(tokenizer, [text], 8)[0] for text in ("a teddy_bear", "a teddy bear"))
    )
    np.testing.assert_array_equal(mask.sum(1), [6, 1])


def test_ids_do_not_depend_on_the_order_of_captions():
    first, second = train_tokenizer(CAPTIONS), train_tokenizer(CAPTIONS[::-1])
    assert first.get_vocab() == second.get_vocab()


def test_unknown_words_are_named_once_and_in_order():
    tokenizer = train_tokenizer(CAPTIONS)
    assert unknown_words(tokenizer, "a dragon beside a Teapot, a dragon's café") == [
        "dragon",
        "beside",
        "s",
        "cafe",
    ]
    assert unknown_words(tokenizer, "a teddy bear, side view") == []


def test_round_trip_and_damage(tmp_path):
    tokenizer = train_tokenizer(CAPTIONS)
    tokenizer.save(str(tmp_path / "t.json"))
    again = load_tokenizer(tmp_path / "t.json")
    assert again.encode("a teapot, zebra").ids == tokenizer.encode("a teapot, zebra").ids
    document = json.loads((tmp_path / "t.json").read_text())
    # One that cannot split what it does not know, and one that leaves texts as they are.
    for change, fails in (({"model": document["model"] | {"unk_token": "?"}}, True), ({}, False)):
        (tmp_path / "t.json").write_text(json.dumps(document | {"normalizer": None} | change))
        if fails:
            with pytest.raises(UserError, match="cannot read the tokenizer .*t.json"):
                load_tokenizer(tmp_path / "t.json")
        else:
            assert unknown_words(load_tokenizer(tmp_path / "t.json"), "a Teapot") == ["Teapot"]
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(UserError, match="t.json"):
        load_tokenizer(tmp_path / "t.json")


def test_a_template_with_a_token_that_is_none_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    train_tokenizer(CAPTIONS).save(str(path))
    found = json.loads(path.read_text())
    found["post_processor"]["special_tokens"] = {}
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match="cannot read the tokenizer"):
        load_tokenizer(path)


def test_over_long_prompt():
    with pytest.raises(UserError, match="9 words"):
        tokenize(train_tokenizer(CAPTIONS), ["a teapot " * 4 + "photo"], 8)
