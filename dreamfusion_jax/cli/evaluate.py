"""`dreamfusion evaluate`."""

import argparse
from typing import Any

from dreamfusion_jax import registry
from dreamfusion_jax.command_options import given
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.suites import evaluate, find_suite

SUMMARY = "score runs against the true objects, or a prior"
_DEFAULT = "furniture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser, with those of all suites."""
    parser.add_argument(
        "runs", nargs="*", metavar="WORKDIR", default=[], help="folders of finished runs"
    )
    names = registry.names("suite")
    said = "; ".join(f"{name}: {find_suite(name).SUMMARY}" for name in names)
    parser.add_argument(
        "--suite", choices=names, default=_DEFAULT, help=f"{said} (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        help="JSON file of the scores (default: evaluation.json, or evaluation-SUITE.json)",
    )
    parser.add_argument("--gallery", help="PNG or HTML page of all results in pictures")
    for name in names:
        find_suite(name).add_arguments(parser.add_argument_group(f"of --suite={name}"))


def run(options: argparse.Namespace) -> None:
    """Score what the suite is for; the scores are printed and written."""
    from dreamfusion_jax.io import local_path

    settings = _settings(options)
    default = "evaluation.json" if options.suite == _DEFAULT else f"evaluation-{options.suite}.json"
    out = getattr(options, "out", "") or default
    for path in (out, *given(options, "gallery").values()):  # before anything is rendered
        local_path(path)
    evaluate(options.runs, out, suite=options.suite, **settings)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the suite's options that were given; those of another are refused."""
    settings = {k: v for k, v in vars(options).items() if k not in ("runs", "suite", "out")}
    for name in registry.names("suite"):
        own = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        find_suite(name).add_arguments(own)
        others = [action.dest for action in own._actions if action.dest in settings]
        if others and name != options.suite:
            raise UserError(f"--{others[0]} belongs to --suite={name}.")
    return settings
