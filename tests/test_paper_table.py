"""docs/paper.md: its values are those of configs/paper.py, and what it names is there."""

import ast
import dataclasses
import functools
import pathlib
import re

import pytest

from dreamfusion_jax.config import load_config

ROOT = pathlib.Path(__file__).parent.parent
TABLE = ROOT / "docs" / "paper.md"
CONFIG = ROOT / "configs" / "paper.py"
# [file](link) `name`, `name`
REFERENCE = re.compile(r"\[[^\]]+\]\(([^)]+)\)((?:,? `[^`]+`)+)")
STATUS = re.compile(r"same$|deviates: .+|not measured: .+")


@dataclasses.dataclass(frozen=True)
class Row:
    line: int
    paper: str
    where: str
    ours: str
    code: str
    test: str
    status: str


def read_rows() -> list[Row]:
    """The rows below each header that begins with "the paper"."""
    found, inside = [], False
    for number, line in enumerate(TABLE.read_text().splitlines(), 1):
        inside = line.startswith("| the paper |") or inside and line[:1] == "|"
        if inside and not line.startswith(("| the paper |", "|---")):
            cells = [cell.strip() for cell in line.strip().removesuffix("|")[1:].split("|")]
            assert len(cells) == len(dataclasses.fields(Row)) - 1, f"columns of line {number}"
            found.append(Row(number, *cells))
    return found


def references(cell: str) -> list[tuple[pathlib.Path, str]]:
    """The files that a cell links to, each with a name in it."""
    pairs = [(link, name) for link, names in REFERENCE.findall(cell) for name in _quoted(names)]
    return [((TABLE.parent / link).resolve(), name) for link, name in pairs]


def _quoted(text: str) -> list[str]:
    return re.findall("`([^`]+)`", text)


@functools.cache
def names_in(path: pathlib.Path) -> frozenset[str]:
    """What a file defines (`f`, `f.argument`, `C`, `C.method`, `C.attribute`, `CONSTANT`)."""
    found = set()

    def visit(body, prefix):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.FunctionDef):
                arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                found.update(f"{prefix}{node.name}.{argument.arg}" for argument in arguments)
            elif isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    visit(ast.parse(path.read_text()).body, "")
    if path.parent == CONFIG.parent:
        found.update(_keys(load_config(str(path)).to_dict()))
    return frozenset(found)


def _keys(config: dict, prefix: str = "") -> set[str]:
    keys = {prefix + key for key in config}
    for key, value in config.items():
        keys |= _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else set()
    return keys


def problems_of(row: Row) -> list[str]:
    found = []
    if not STATUS.match(row.status):
        found.append(f"the last column is {row.status!r}")
    for cell, kind in ((row.code, "code"), (row.test, "test")):
        if not references(cell) and not row.status.startswith("not measured"):
            found.append(f"it names no {kind}")
        if len(REFERENCE.findall(cell)) != cell.count("]("):
            found.append(f"a link of {kind} has no names")
    for path, name in references(row.code) + references(row.test):
        if not path.is_file():
            found.append(f"there is no {path.relative_to(ROOT)}")
        elif name not in names_in(path):
            found.append(f"{path.relative_to(ROOT)} has no {name}")
    for path, name in references(row.test):
        if not (path.is_relative_to(ROOT / "tests") and name.startswith("test_")):
            found.append(f"{name} of {path.relative_to(ROOT)} is no test")
    return found


ROWS = read_rows()
NUMBERS = [
    pytest.param(key, row.ours, id=key)
    for row in ROWS
    for path, key in references(row.code)
    if path == CONFIG
]


def test_links_and_names_are_there():
    # Of a table that could not be read nothing would be checked.
    assert len(ROWS) > 90 and len(NUMBERS) > 50
    assert not [f"line {row.line}: {problem}" for row in ROWS for problem in problems_of(row)]


def test_other_links_are_there():
    links = re.findall(r"\]\(([^)]+)\)", TABLE.read_text())
    files = [link for link in links if not link.startswith("https://")]
    assert not [file for file in files if not (TABLE.parent / file).is_file()]


@pytest.mark.parametrize(("key", "ours"), NUMBERS)
def test_paper_config_has_the_papers_numbers(key, ours):
    entry = load_config(str(CONFIG))
    for part in key.split("."):
        entry = entry[part]
    (value,) = _quoted(ours)
    assert entry == (value if isinstance(entry, str) else ast.literal_eval(value))
