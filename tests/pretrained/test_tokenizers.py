import json
import logging
import shutil
import sys
from pathlib import Path

import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.pretrained.tokenizers import load_hf_tokenizer

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
from odd_strings import odd_strings  # noqa: E402


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_ids_are_those_of_transformers(kind):
    tokenizer = load_hf_tokenizer(GOLDEN / "tokenizers" / kind, kind)
    expected = json.loads((GOLDEN / "tokenizers" / "ids.json").read_text())[kind]
    assert len(set(odd_strings())) >= 190
    for text, ids in zip(odd_strings(), expected, strict=True):
        assert tokenizer.ids(text) == ids, text


def test_rows_are_filled_and_cut(caplog):
    clip = load_hf_tokenizer(GOLDEN / "tokenizers" / "clip", "clip")
    ids, mask = clip(["a chair", "a photo of the chair, front view, and one more table"], 8)
    assert ids.shape == mask.shape == (2, 8)
    used = mask[0].sum()
    assert ids[0, 0] == clip.start and ids[0, used - 1] == clip.end
    assert (ids[0, used:] == clip.pad).all()
    assert mask[1].all() and ids[1, -1] == clip.end  # cut, but ended
    assert "of which the text encoder reads 8; it does not see: " in caplog.text
    assert caplog.text.rstrip().endswith("and one more table")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        clip(["a chair"], 8)
    assert not caplog.text


def test_the_padding_is_what_the_folder_says(tmp_path):
    shutil.copytree(GOLDEN / "tokenizers" / "clip", tmp_path / "clip")
    settings = tmp_path / "clip" / "special_tokens_map.json"
    settings.write_text(json.dumps({"pad_token": {"content": "!"}}))  # Stable Diffusion 2
    tokenizer = load_hf_tokenizer(tmp_path / "clip", "clip")
    assert tokenizer.pad != tokenizer.end
    settings.write_text(json.dumps({"pad_token": "no such token"}))
    with pytest.raises(UserError, match="of another kind"):
        load_hf_tokenizer(tmp_path / "clip", "clip")


def test_tokenizers_that_are_not_there_or_damaged(tmp_path):
    for kind, files in (("clip", "vocab.json with merges.txt"), ("t5", "spiece.model")):
        with pytest.raises(UserError, match=f"neither {files} nor tokenizer.json"):
            load_hf_tokenizer(tmp_path, kind)
    (tmp_path / "merges.txt").write_text("a b\n")
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_hf_tokenizer(tmp_path, "clip")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("vocab.json", '{"a": 4000000000000}', "ids are not whole numbers"),
        ("vocab.json", '{"a": 1, "b": 1}', "ids are not whole numbers"),
        ("vocab.json", '{"\\ud800": 1}', "ids are not whole numbers"),
        ("vocab.json", "[" * 100_000, "nested too deeply"),
        ("vocab.json", "{}", "which its vocab.json does not have"),
        ("merges.txt", "a b c\n", "a line is no pair of tokens"),
        ("special_tokens_map.json", '{"pad_token": 3}', "pad_token=3, which must be a text"),
        ("special_tokens_map.json", '{"pad_token": {"content": [1]}}', "which must be a text"),
        ("special_tokens_map.json", '{"pad_token": "\\ud800"}', "which must be a text"),
        ("special_tokens_map.json", "{", "is not valid JSON"),
    ],
)
def test_what_is_damaged_in_a_clip_tokenizer_is_named(tmp_path, file, text, message):
    folder = shutil.copytree(GOLDEN / "tokenizers" / "clip", tmp_path / "clip")
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        load_hf_tokenizer(folder, "clip")
