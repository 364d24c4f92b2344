"""The notebooks run from the first cell to the last, with small settings.

A cell's metadata may hold "small": values of its variables that make the run short.
"""

import ast
import base64
import importlib.util
import io
import pathlib
import re
import subprocess

import nbclient
import nbformat
import PIL.Image
import pytest
from nbformat.v4 import new_code_cell

FOLDER = pathlib.Path(__file__).parents[2] / "launch" / "colab"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_they_are_there():
    names = {path.stem for path in NOTEBOOKS}
    assert names == {"quickstart", "score_distillation", "bring_your_prior"}


@pytest.fixture(scope="module")
def renderer():
    path = FOLDER.parent / "render_notebooks.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_those_of_the_code(path, renderer):
    """And pictures, small enough for a code host, without a word of where they were made."""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.outputs_of == renderer.checksum(notebook), "launch/render_notebooks.py"
    assert path.stat().st_size <= renderer.LARGEST
    shown = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    images = [out.data["image/png"] for out in shown if "image/png" in out.get("data", ())]
    assert images
    for image in images:
        PIL.Image.open(io.BytesIO(base64.b64decode(image))).load()
    texts = str([out for out in shown if "image/png" not in out.get("data", ())])
    assert not re.search(r"/home/|/root/|/tmp/|Traceback", texts)


def test_a_notebook_is_rendered_with_what_it_says_is_shown(renderer):
    notebook = nbformat.v4.new_notebook(
        cells=[
            new_code_cell("X = 1", metadata={"shown": {"X": 2}}),
            new_code_cell("import sys\nprint(X)\nprint('progress', file=sys.stderr)"),
            new_code_cell("from IPython import display\ndisplay.HTML('<video>')"),
        ]
    )
    before = renderer.checksum(notebook)
    done = renderer.rendered(notebook)
    assert [[out.text for out in cell.outputs] for cell in done.cells] == [[], ["2\n"], []]
    assert done.cells[0].source == "X = 1" and done.metadata.outputs_of == before
    done.cells[0].source = "X = 3"
    assert renderer.checksum(done) != before


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
