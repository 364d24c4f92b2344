"""The options of all commands."""

import argparse
from typing import Any, Protocol, runtime_checkable

from dreamfusion_jax import __version__, registry
from dreamfusion_jax.errors import UserError

EXAMPLES = """examples:
  dreamfusion generate "a teddy bear"
  dreamfusion generate "an armchair" --seed=1 --config.train.steps=500
  dreamfusion generate --prompts=prompts.txt
  dreamfusion view outputs/a-teddy-bear
  dreamfusion render outputs/a-teddy-bear --size=256
  dreamfusion sample "a teddy bear, front view" --out=samples.png
  dreamfusion evaluate --suite=furniture outputs/*
"""


@runtime_checkable
class Command(Protocol):
    """What the registry has under the kind "command": a module, or a class with static methods.

    All are imported for --help, so what is heavy, JAX first of all, they import within `run`.

    An option that is not given is missing in the options, unless it has a default of its own: `run`
    leaves it out of its call, and the default of the called function holds. The help text repeats
    that as "(default: VALUE)", and tests/test_cli.py compares them. A command with the option
    --config (`command_options.add_config`) gets the values of --config.KEY=VALUE as
    `options.overrides`, a dict of texts by key.
    """

    SUMMARY: str  # what the command does, in lower case and without a full stop

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options to the command's parser."""

    def run(self, options: argparse.Namespace) -> None:
        """Do it. Raises a UserError for bad input."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands that the registry has.

    Raises:
      UserError: what a plug-in registered as a command is none.
    """
    parser = argparse.ArgumentParser(
        prog="dreamfusion",
        description="Text-to-3D by score distillation in pure JAX.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dreamfusion {__version__}")
    _add_plugin(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in registry.names("command"):
        _add_command(commands, name, registry.class_of("command", name))
    return parser


def _add_command(commands: argparse._SubParsersAction, name: str, command: Any) -> None:
    if not isinstance(command, Command):
        raise UserError(f"The command {name!r} must have SUMMARY, add_arguments and run.")
    summary = command.SUMMARY
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    command.add_arguments(parser)
    _add_plugin(parser)


def _add_plugin(parser: argparse.ArgumentParser) -> None:
    """For --help: `options.split_plugins` takes them out before anything is parsed."""
    parser.add_argument(
        "--plugin",
        metavar="FILE.py",
        action="append",
        default=argparse.SUPPRESS,
        help="a Python file to import first, for what it registers; may be given several times",
    )
