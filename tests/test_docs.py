"""What the documentation points at is there, and the commands that it shows are understood."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from dreamfusion_jax.cli.options import config_values, joined, split_plugins
from dreamfusion_jax.cli.parser import make_parser
from dreamfusion_jax.config import load_config, override

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
_MOST_LINES, _LONGEST = 150, 130


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """As code hosts make them of headings."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page):
    for target, anchor in _LINK.findall(page.read_text()):
        path = (page.parent / target) if target else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor[1:] in anchors(path), target + anchor


def test_every_page_is_linked_from_the_readme():
    linked = {target for target, _ in _LINK.findall((ROOT / "README.md").read_text())}
    assert {ids(page) for page in PAGES} - {"README.md"} <= linked


def test_the_readme_can_be_read_at_one_go():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= _MOST_LINES
    assert max(len(line) for line in lines if not line.startswith("|")) <= _LONGEST


def test_the_page_of_all_keys_is_that_of_the_config():
    path = ROOT / "launch" / "make_configuration_page.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    said = {".".join(key): text for key, text in maker.comments().items()}
    keys = maker._flat(load_config("paper").to_dict())
    assert set(said) == set(keys)
    assert [key for key in said if not said[key]] == []
    assert maker.PAGE.read_text() == maker.page()


def commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text()
        found += [line for block in blocks(text, "bash") for line in block.splitlines()]
        found += re.findall(r"`(dreamfusion [a-z-]+ [^`]+)`", text.replace("\n", " "))
    cut = [re.sub(r"^.*?&& ", "", line).strip() for line in found]
    return sorted({line for line in cut if line.startswith("dreamfusion ")})


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command):
    """All options are known, and so is every key of a config, with its kind."""
    words = shlex.split(re.sub(r"\s#.*", "", command))[1:]
    if "..." in command:
        pytest.skip("not a whole command")
    plugins, words = split_plugins(joined(words))
    if plugins:
        pytest.skip("test_extending.py runs it")
    options, rest = make_parser().parse_known_args(words)
    if overrides := config_values(rest):
        override(load_config(options.config), overrides)
