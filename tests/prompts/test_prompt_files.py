import json

import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.prompts.prompt_files import caption_key, read_captions


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "# two\nA red bus.\n\na  blue bird\n"),
        ("a.json", json.dumps(["A red bus.", "a  blue bird"])),
    ],
)
def test_lines_and_lists_are_read_as_they_are(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_captions(tmp_path / name) == ["A red bus.", "a  blue bird"]


def test_published_lists_are_read_without_being_run(tmp_path):
    path = tmp_path / "coco_queries_val.py"
    path.write_text(
        '"""Doc."""\nimport os\nos.abort()\nqueries = [\n'
        "    'A ZEBRA IS EATING ',\n    \"a sign says 'Walk'.\",\n]  # 2\n"
        "queries = [q.lower().strip(' .,') + '.' for q in queries]\n"
    )
    assert read_captions(path) == ["a zebra is eating.", "a sign says 'walk'."]


def test_keys_ignore_case_spaces_and_the_full_stop():
    assert caption_key("A  Red bus. ") == caption_key("a red bus") != caption_key("a red, bus")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a bus\na cat\nA bus.\n", r"Captions 1 and 3 .* are the same \('A bus.'\)"),
        ("a.txt", "a bus\n", "holds 1 captions"),
        ("a.txt", None, "cannot be read"),
        ("a.json", "[1, 2]", "not a list of captions"),
        ("a.json", "[", "cannot be read"),
        ("a.py", "names = ['a', 'b']", "no list `queries"),
        ("a.py", "queries = [f(), 'b']", "no list `queries"),
        ("a.py", "queries = [", "cannot be read"),
    ],
)
def test_bad_captions_are_refused(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_captions(tmp_path / name)


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A data set like TFDS' coco_captions, of four captions in two splits."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class CocoCaptions(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.1.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(10), "val": self._generate_examples(20)}

        def _generate_examples(self, first):
            image = tmp_path / "picture.png"
            PIL.Image.new("RGB", (4, 4)).save(image)
            captions = [{"id": first + i, "text": f"Caption {first + i}. "} for i in range(2)]
            yield first, {"image": str(image), "captions": captions}

    CocoCaptions(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def test_coco_captions_by_their_ids(coco, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("21\n10\n20\n")
    source = f"coco_captions:{ids}"
    assert read_captions(source) == ["Caption 21.", "Caption 10.", "Caption 20."]
    ids.write_text("21\n99\n")
    with pytest.raises(UserError, match="no caption 99"):
        read_captions(source)
    ids.write_text("21\nx\n")
    with pytest.raises(UserError, match="'x', which is no id"):
        read_captions(source)


def test_coco_that_is_not_prepared_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "ids.txt").write_text("1\n2\n")
    with pytest.raises(UserError, match="holds no coco_captions; prepare it"):
        read_captions(f"coco_captions:{tmp_path / 'ids.txt'}")
