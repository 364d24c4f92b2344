"""Imports go one way, from what is at the bottom to what is built on it."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[1] / "dreamfusion_jax"
LAYERS = (
    "errors types io schedules registry distributions model_files tensors model_weights "
    "compile_cache xla_flags startup command_options",
    "config",
    "scene optim prompts models",
    "pretrained",
    "diffusion",
    "guidance",
    "export",
    "evaluation viewer",
    "train",
    "furniture",
    "generation results scoring suites",
    "api",
    "cli",
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer.split()}


def arrows(path: pathlib.Path) -> set[str]:
    """What a file imports of the package, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dreamfusion_jax"):
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found & set(RANK)


def test_imports_go_one_way():
    back = set()
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE)
        own = place.parts[0].removesuffix(".py")
        if own != "__init__":
            back |= {(str(place), name) for name in arrows(path) if RANK[name] > RANK[own]}
    assert back == set()


def test_the_shipped_objects_are_reached_through_the_registry_only():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] != "furniture":
            assert "furniture" not in arrows(path), path


def test_every_part_has_its_layer():
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    unplaced = {name for name in parts if not name.startswith(("_", "py."))} - set(RANK)
    assert not unplaced
