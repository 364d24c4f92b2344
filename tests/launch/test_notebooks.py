"""The notebooks run from the first cell to the last, with small settings.

A cell's metadata may hold "small": values of its variables that make the run short.
"""

import ast
import importlib.util
import pathlib
import re
import subprocess

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


def code_of(path: pathlib.Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def addresses(text: str) -> list[str]:
    """Where the repository is, as far as a text names a place of it."""
    return re.findall(r"https?://[\w./-]*dreamfusion_jax[\w./-]*", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_address_stands_once(path):
    """As a constant, the same as in the README, where it stands once too."""
    (address,) = addresses(path.read_text())
    (constant,) = (
        node.value.value
        for cell in code_of(path)
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REPOSITORY"
    )
    assert constant == address
    assert addresses((FOLDER.parents[1] / "README.md").read_text()) == [address]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_installs_from_the_address_outside_of_a_clone(path, tmp_path, monkeypatch):
    (cell,) = (cell for cell in code_of(path) if "REPOSITORY =" in cell)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    with pytest.raises(SystemExit, match="Write the repository's address"):
        exec(cell, {})
    assert not commands
    exec(cell.replace("com/YOUR-ORG", "com/acme"), {})
    assert commands[-1][-1] == "dreamfusion_jax @ git+https://github.com/acme/dreamfusion_jax"
    (tmp_path / "setup.py").touch()
    exec(cell, {})
    assert commands[-1][-1] == str(tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_oldest_python_reads_it(path):
    """Nothing that Colab's, which is newer, would not: no magics either."""
    for cell in code_of(path):
        ast.parse(cell, feature_version=(3, 11))


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
