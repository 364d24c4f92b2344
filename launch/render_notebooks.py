"""Run the notebooks of launch/colab and keep what they show in them.

python launch/render_notebooks.py [NAME ...]      (pip install -e '.[test]'; minutes each)

A cell's metadata may hold "shown": values of its variables that stand in for the cell's own, where
these need more than ships. Pictures and texts are kept; videos and pages are not, as code hosts do
not show them. The notebook says of which code its outputs are; tests/launch/test_notebooks.py
compares.
"""

import argparse
import pathlib
import sys
import tempfile
import zlib
from typing import Any

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent / "colab"
LARGEST = 1_500_000  # bytes of a notebook
_KEPT = ("image/png", "image/gif", "text/markdown", "text/plain")


def main(arguments: list[str] | None = None) -> int:
    """Render the notebooks; 2 where one is not there, or becomes too large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *names], default=[])
    options = parser.parse_args(arguments)
    for name in options.names or names:
        path = FOLDER / f"{name}.ipynb"
        notebook = rendered(nbformat.read(path, as_version=4))
        text = nbformat.writes(notebook) + "\n"
        if len(text) > LARGEST:
            print(f"{name} would have {len(text):,} bytes of {LARGEST:,}.", file=sys.stderr)
            return 2
        path.write_text(text)
        print(f"{path}: {len(text):,} bytes")
    return 0


def rendered(notebook: Any) -> Any:
    """Return a notebook with the outputs of its cells, run from the first to the last."""
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        values = cell.metadata.get("shown", {}).items()
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in values)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=1200, resources=resources).execute()
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in map(_shown, cell.outputs) if out is not None]
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.outputs_of = checksum(notebook)
    return notebook


def checksum(notebook: Any) -> str:
    """Return a checksum of all code, and of the values that it was run with."""
    code = [
        (cell.source, sorted(cell.metadata.get("shown", {}).items()))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return f"{zlib.crc32(repr(code).encode()):08x}"


def _shown(output: Any) -> Any | None:
    """Return an output as it is kept, None for one that is not: progress, warnings, pages."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    if output.output_type == "error" or "text/html" in output.data:
        return None
    output.data = {kind: output.data[kind] for kind in _KEPT if kind in output.data}
    output.metadata = {}
    return output if output.data else None


if __name__ == "__main__":
    sys.exit(main())
