"""Options that commands of several packages have."""

import argparse
from typing import Any


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of some options that were given, by name."""
    return {name: value for name, value in vars(options).items() if name in names}


def add_config(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --config, and with it --config.KEY=VALUE."""
    parser.add_argument(
        "--config",
        default=default,
        help="name of a config or a Python file (default: %(default)s)",
    )
    parser.epilog = (
        "Any value of the config can be set with --config.KEY=VALUE, "
        "for example --config.train.steps=500."
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Add --profile, which `train.profile.steps_to_profile` reads."""
    parser.add_argument(
        "--profile",
        metavar="N:M",
        help="write a trace of the steps N to M - 1, and of what runs in the same calls, to "
        "WORKDIR/profile",
    )
