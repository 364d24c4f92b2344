"""The notebooks run from the first cell to the last, with small settings.

A cell's metadata may hold "small": values of its variables that make the run short.
"""

import pathlib

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell

FOLDER = pathlib.Path(__file__).parents[2] / "launch" / "colab"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_they_are_there():
    names = {path.stem for path in NOTEBOOKS}
    assert names == {"quickstart", "score_distillation", "bring_your_prior"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.cell_type == "markdown" or not (cell.outputs or cell.execution_count)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_to_the_end(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    cells = []
    for cell in notebook.cells:
        small = cell.metadata.get("small", {})
        lines = [f"{name} = {value!r}" for name, value in small.items()]
        cells += [cell, new_code_cell("\n".join(lines))] if small else [cell]
    notebook.cells = cells
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=400, resources=resources).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    kinds = {kind for out in shown for kind in out.get("data", ())}
    assert "image/png" in kinds
    pages = [out["data"]["text/html"] for out in shown if "text/html" in out.get("data", ())]
    if path.stem != "score_distillation":
        assert any("<video" in page for page in pages)  # a result shows itself
