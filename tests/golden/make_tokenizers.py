"""Makes tokenizers/: two trained tokenizers, and the ids that transformers gives to odd strings.

Run once, with transformers installed: `python make_tokenizers.py`.
"""

import importlib.util
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
from odd_strings import odd_strings  # noqa: E402


def train_both(folder: pathlib.Path) -> None:
    """Writes clip/ and t5/, tokenizer folders as models have them."""
    path = HERE.parents[1] / "launch" / "make_model_folder.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    strings = odd_strings()
    maker.write_byte_pairs(folder / "clip", " ".join(strings).split())
    # "..." often enough to be a piece: ".", ".." and "..", "." would score the same.
    text = " ".join([*strings[2:90], *["..."] * 20])
    maker.write_sentencepiece(folder / "t5" / "spiece.model", text, 400)


def main() -> None:
    """Writes tokenizers/ beside this file."""
    import transformers

    folder = HERE / "tokenizers"
    train_both(folder)
    clip = transformers.CLIPTokenizer.from_pretrained(folder / "clip")
    t5 = transformers.T5Tokenizer.from_pretrained(folder / "t5", extra_ids=0)
    ids = {
        name: [tokenizer(text)["input_ids"] for text in odd_strings()]
        for name, tokenizer in (("clip", clip), ("t5", t5))
    }
    (folder / "ids.json").write_text(json.dumps(ids) + "\n")


if __name__ == "__main__":
    main()
