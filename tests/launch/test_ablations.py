import pathlib
import sys

import PIL.Image
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "launch"))
import ablations  # noqa: E402

ROWS = ablations.ROWS
SMALL = (
    "train.steps=20",
    "train.steps_per_call=10",
    "train.image_size=16",
    "train.scenes_per_batch=1",
    "scene.field.cells=16",
    "scene.sampler.cells=16",
    "scene.sampler.coarse_samples=8",
    "scene.sampler.fine_samples=4",
)


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["ablations.py", *arguments])
    code = 0
    try:
        ablations.main()
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nouns=17",), "--nouns=17: there are 16."),
        (("--nouns=0",), "'0' is not a number from 1 on"),
        (("--set", "train.steps"), "'train.steps' is not KEY=VALUE"),
        (("--set", "train.stepz=2"), "Did you mean train.steps"),
        (("--rows", "lights"), "invalid choice: 'lights'"),
    ],
)
def test_bad_input_is_a_sentence(monkeypatch, capsys, tmp_path, arguments, message):
    code, printed = run(monkeypatch, capsys, f"--workdir={tmp_path}", *arguments)
    assert code == 2 and message in printed
    assert not any(tmp_path.iterdir())


def test_the_table_has_intervals_and_tells_what_is_missing():
    row = {"interval": {"iou": [0.5, 0.75]}, "runs": [{}, {}], "without_surface": 1}
    mean = {"iou": 0.625, "psnr": 20.04, "chamfer": 0.03, "color": 0.5, "geo": 0.25}
    text = ablations.table({"base": row | {"mean": mean | {"janus": 0.0, "minutes": None}}})
    *_, line = text.splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        ROWS["base"][0],
        "0.625 (0.50 to 0.75)",
        "20.0",
        "0.030 (1 of 2 have no surface)",
        "50%",
        "25%",
        "0%",
        "-",
    ]


@pytest.mark.slow
def test_two_rows_are_made_scored_and_drawn(monkeypatch, capsys, tmp_path):
    command = [f"--workdir={tmp_path}", "--rows", "base", "lighting", "--nouns=2", "--set", *SMALL]
    code, printed = run(monkeypatch, capsys, *command)
    assert code == 0
    table = (tmp_path / "table.md").read_text()
    assert table in printed and all(ROWS[row][0] in table for row in ("base", "lighting"))
    # The true objects, and color beside shape of each row.
    figure = PIL.Image.open(tmp_path / "figure.png")
    assert figure.width == 2 * PIL.Image.open(tmp_path / "base" / "gallery.png").width
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}
    assert len(finished) == 4
    assert run(monkeypatch, capsys, *command)[0] == 0  # nothing is made again
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
