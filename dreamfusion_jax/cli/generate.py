"""`dreamfusion generate`."""

import argparse
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dreamfusion_jax.cli.hosts import add_hosts, join_hosts
from dreamfusion_jax.cli.options import whole_numbers
from dreamfusion_jax.command_options import add_config, add_profile, given
from dreamfusion_jax.errors import UserError

SUMMARY = "turn prompts into 3D objects"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("prompt", nargs="?", help='what to make, for example "a teddy bear"')
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="instead of one prompt: a text file with one a line (or what evaluate --prompts "
        "takes); config.train.scenes_per_batch of them are optimized together",
    )
    add_config(parser, "quick")
    parser.add_argument(
        "--workdir",
        help="folder of the results (default: outputs/<prompt>, or outputs/<name of the file>)",
    )
    parser.add_argument("--seed", type=int, help="random seed (default: the config's)")
    parser.add_argument(
        "--seeds",
        type=whole_numbers,
        help="several, with commas: every prompt is made with each of them",
    )
    parser.add_argument(
        "--init",
        metavar="WORKDIR",
        help="start from the scene of another run, which has the same kind of field",
    )
    parser.add_argument(
        "--view", action="store_true", help="show the scene in the browser while it forms"
    )
    parser.add_argument("--port", type=int, help="of that page (default: 8080)")
    add_profile(parser)
    add_hosts(parser)


def run(options: argparse.Namespace) -> None:
    """Make the objects, and on the first of several hosts say where they are."""
    from dreamfusion_jax import api

    _check_options(options)
    _check_overrides(options.overrides, (api.generate, api.generate_many))
    prompts, first = _prompts(options), join_hosts(options)
    how: dict[str, Any] = (
        given(options, "config", "workdir") | options.overrides | given(options, "seed", "init")
    )
    if _many(options):
        how.setdefault("workdir", Path("outputs") / _name(options))
        results = api.generate_many(prompts, **given(options, "seeds"), **how)
    else:
        how |= _page(options) | given(options, "profile")
        results = [api.generate(*prompts, **how)]
    for result in results if first else ():
        files = [result.video, result.mesh, result.workdir / "report.html"]
        print(f"{result.workdir}: {', '.join(path.name for path in files if path.is_file())}")


def _many(options: argparse.Namespace) -> bool:
    return bool(given(options, "prompts", "seeds"))


def _check_options(options: argparse.Namespace) -> None:
    if hasattr(options, "prompt") == hasattr(options, "prompts"):
        raise UserError('Give one prompt, for example "a teddy bear", or --prompts=FILE.')
    if _many(options) and given(options, "view", "profile"):
        raise UserError("--view and --profile are of one scene: give one prompt and one seed.")
    if hasattr(options, "seed") and hasattr(options, "seeds"):
        raise UserError("Give --seed or --seeds, not both.")


def _check_overrides(overrides: Iterable[str], functions: Iterable[Any]) -> None:
    """Refuse what the functions take beside values of the config."""
    taken = {name for function in functions for name in inspect.signature(function).parameters}
    for key in sorted(taken.intersection(overrides)):
        instead = "--config.prior.name" if key == "prior" else "dreamfusion generate --help"
        raise UserError(f"--config.{key} cannot be set; see {instead}.")


def _prompts(options: argparse.Namespace) -> list[str]:
    from dreamfusion_jax.prompts.prompt_files import read_prompts

    return read_prompts(options.prompts) if hasattr(options, "prompts") else [options.prompt]


def _name(options: argparse.Namespace) -> str:
    """Return the folder's name of many results."""
    from dreamfusion_jax.prompts.text import slug

    return Path(options.prompts).stem if hasattr(options, "prompts") else slug(options.prompt)


def _page(options: argparse.Namespace) -> dict[str, int]:
    """Return the port of the page, where one is asked for: that of `view` if none is given."""
    from dreamfusion_jax import api

    if not hasattr(options, "view"):
        return {}
    port = inspect.signature(api.view).parameters["port"].default
    return {"viewer_port": getattr(options, "port", port)}
