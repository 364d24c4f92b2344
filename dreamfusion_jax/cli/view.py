"""`dreamfusion view`."""

import argparse

from dreamfusion_jax.cli.options import add_step

SUMMARY = "look at a run in the browser, while it forms or later"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("workdir", help="folder of a run")
    parser.add_argument("--port", type=int, help="of the page (default: 8080)")
    add_step(parser)


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from dreamfusion_jax import api

    api.view(**vars(options))
