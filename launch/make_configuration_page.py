"""Write docs/configuration.md from the comments of configs/paper.py.

python launch/make_configuration_page.py
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamfusion_jax import registry
from dreamfusion_jax.config import load_config

ROOT = Path(__file__).parents[1]
SOURCE, PAGE = ROOT / "configs" / "paper.py", ROOT / "docs" / "configuration.md"
INTRODUCTION = """\
# Configuration

Set any key with `--config.KEY=VALUE`, or in Python with `generate(..., train__steps=500)` for
`train.steps`. Choose a config with `--config=NAME`, or `--config=FILE.py` for one of your own: a
Python file with a function `get_config()` that returns an `ml_collections.ConfigDict`. Configs are
locked: unknown keys and values of another kind are refused.
`python launch/make_configuration_page.py` writes this page from the comments of
[configs/paper.py](../configs/paper.py).

| key | paper | quick (default) | what it is |
|---|---|---|---|
"""


def comments() -> dict[tuple[str, ...], str]:
    """Return the comment on every key of get_config(): behind its value, or in the lines above."""
    text = SOURCE.read_text()
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    behind, above = {}, {}
    for token in tokens:
        if token.type == tokenize.COMMENT:
            alone = not text.splitlines()[token.start[0] - 1][: token.start[1]].strip()
            (above if alone else behind)[token.start[0]] = token.string.removeprefix("#").strip()
    found = {}
    for path, first, last in _places(ast.parse(text)):
        lines = []
        while (first := first - 1) in above:
            lines.insert(0, above[first])
        found[path] = behind.get(last) or " ".join(lines)
    return found


def _places(tree: ast.AST) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Yield each key with the first and the last line of its value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            names = tuple(ast.unparse(node.targets[0]).split(".")[1:])
            value = node.value
            if isinstance(value, ast.Call):  # ConfigDict({...}), or one to be filled
                value = value.args[0] if value.args else ast.Dict([], [])
            yield from _keys(names, value, node.lineno)


def _keys(
    names: tuple[str, ...], value: ast.AST, line: int
) -> Iterator[tuple[tuple[str, ...], int, int]]:
    if not isinstance(value, ast.Dict):
        yield names, line, value.end_lineno
        return
    for key, part in zip(value.keys, value.values, strict=True):
        yield from _keys((*names, key.value), part, key.lineno)


def page() -> str:
    """Return the page."""
    paper, quick = (_flat(load_config(name).to_dict()) for name in ("paper", "quick"))
    said = {".".join(path): text for path, text in comments().items()}
    rows = [_row(key, paper[key], quick.get(key, "-"), said[key]) for key in said]
    fields = []
    for name in registry.names("field"):
        keys = ", ".join(
            f"`{key}={value!r}`" for key, value in registry.defaults("field", name).items()
        )
        fields.append(f"- `{name}`: {keys}")
    others = (
        "\nA part with a `name` has the keys of its class. These are the fields, with the defaults "
        "of their keys; the\n[sources](../dreamfusion_jax/scene/fields) say what each does:\n\n"
    )
    return INTRODUCTION + "\n".join(rows) + "\n" + others + "\n".join(fields) + "\n"


def _row(key: str, paper: Any, quick: Any, said: str) -> str:
    shown = ["same" if quick == paper else f"`{quick}`", said.replace("|", "\\|")]
    return f"| `{key}` | `{paper!r}` | {shown[0]} | {shown[1]} |"


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return flat


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
