import dataclasses
import json

import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.image_folder import has_images, read_images
from dreamfusion_jax.evaluation.retrieval import ResultImages, by_prompt, evaluate_retrieval, ranks

COLORS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
CAPTIONS = [f"a {name} thing." for name in COLORS]


@dataclasses.dataclass(frozen=True)
class ColorModel:
    """Knows three captions, and sees the mean color of a picture."""

    params: None = None
    image_size: int = 4

    def texts(self, texts):
        return np.array([COLORS[text.split()[1]] for text in texts], np.float32)

    def embed(self, params, images):
        raise NotImplementedError

    def images(self, images):
        mean = images.mean((1, 2))
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)

    def architecture(self):
        return self


def images(*names):
    return np.stack([np.full((4, 4, 3), COLORS[name], np.float32) * 0.8 + 0.1 for name in names])


def test_ranks_count_what_fits_better():
    images, texts = np.eye(3)[:2] + 0.1, np.eye(3)
    assert ranks(images, texts, 0).tolist() == [0, 1]
    assert ranks(images, texts, 2).tolist() == [2, 2]
    # What fits as well counts if it comes before: a constant model has no hits by luck.
    assert [ranks(np.ones((1, 3)), texts, i).tolist() for i in range(3)] == [[0], [1], [2]]
    # What is not a number is no hit, of the caption or of those beside it.
    images[0, 0] = np.nan
    assert ranks(images, texts, 0).tolist()[0] > 0


def test_figures_are_means_over_captions_after_seeds(tmp_path, capsys):
    shown = [
        ResultImages("a", "A red thing", {"color": images("red", "red"), "geo": images("blue")}, 0),
        ResultImages(
            "b", "a red thing.", {"color": images("red", "blue"), "geo": images("red")}, 1
        ),
        ResultImages(
            "c", "a green thing", {"color": images("blue", "blue"), "geo": images("green")}
        ),
    ]
    path = tmp_path / "scores.json"
    result = evaluate_retrieval(ColorModel(), CAPTIONS, shown, about={"model": "m"}, out=path)
    assert result["prompts"] == {
        "a red thing.": {"color": 0.75, "geo": 0.5},
        "a green thing.": {"color": 0.0, "geo": 1.0},
    }
    assert result["mean"] == {"color": 0.375, "geo": 0.75}
    assert result["interval"]["color"] == [0, 0.75]
    assert [run["taken_for"] for run in result["runs"]] == [CAPTIONS[0], CAPTIONS[0], CAPTIONS[2]]
    assert json.loads(path.read_text()) == result
    printed = capsys.readouterr().out
    assert "mean of 2 among 3" in printed and "a blue thing." in printed


def test_a_caption_without_a_kind_in_some_run_has_no_figure_of_it():
    result = evaluate_retrieval(
        ColorModel(),
        CAPTIONS,
        [
            ResultImages("a", CAPTIONS[0], {"color": images("red")}),
            ResultImages("b", CAPTIONS[1], {"color": images("red"), "geo": images("green")}),
        ],
        about={},
    )
    assert result["mean"] == {"color": 0.5, "geo": 1.0}
    assert by_prompt([]) == {}


def test_unknown_captions_and_nothing_are_refused():
    stray = [ResultImages("x", "a cat", {"color": images("red")})]
    with pytest.raises(UserError, match="'a cat' of x is not among the 3 captions"):
        evaluate_retrieval(ColorModel(), CAPTIONS, stray, about={})
    with pytest.raises(UserError, match="nothing to rank"):
        evaluate_retrieval(ColorModel(), CAPTIONS, [], about={})


def save(path, name, mode="RGB", size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    color = tuple(255 * c for c in COLORS[name])
    PIL.Image.new(mode, size, (*color, 0) if mode == "RGBA" else color).save(path)


def test_pictures_are_found_by_their_names(tmp_path):
    assert not has_images(tmp_path)
    save(tmp_path / "a-red-thing-001.png", "red")
    save(tmp_path / "a-red-thing_2.jpg", "red")
    save(tmp_path / "a-blue-thing" / "000.png", "blue", "RGBA")
    save(tmp_path / "geo" / "a-red-thing.png", "green")
    (found,) = read_images(tmp_path / "a-blue-thing", CAPTIONS)
    assert found.caption == "a blue thing."
    (tmp_path / "notes.txt").write_text("nothing to see")
    assert has_images(tmp_path)
    found = {shown.caption: shown.images for shown in read_images(tmp_path, CAPTIONS)}
    assert set(found) == {"a red thing.", "a blue thing."}
    assert {kind: len(p) for kind, p in found["a red thing."].items()} == {"color": 2, "geo": 1}
    np.testing.assert_allclose(found["a red thing."]["geo"][0, 0, 0], (0, 1, 0))
    np.testing.assert_allclose(found["a blue thing."]["color"], 1)  # transparent: white shows
    (gray,) = read_images(tmp_path / "a-blue-thing", CAPTIONS, background=0.5)
    np.testing.assert_allclose(gray.images["color"], 0.5)


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    save(tmp_path / "a" / "a-cat.png", "red")
    with pytest.raises(UserError, match="a-cat.png belongs to none of the 3 captions"):
        list(read_images(tmp_path / "a", CAPTIONS))
    save(tmp_path / "run" / "previews" / "a-red-thing.png", "red")
    (tmp_path / "run" / "config.json").write_text("{}")
    assert not has_images(tmp_path)  # previews of a run are no results
    with pytest.raises(UserError, match="1 of the captions are so alike"):
        list(read_images(tmp_path, ["a cat", "a cat, on a mat", "a cat on a mat"]))
    save(tmp_path / "b" / "a-red-thing-1.png", "red")
    save(tmp_path / "b" / "a-red-thing-2.png", "red", size=(5, 4))
    with pytest.raises(UserError, match="another size"):
        list(read_images(tmp_path / "b", CAPTIONS))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a-red-thing.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be read"):
        list(read_images(tmp_path / "c", CAPTIONS))
