"""What options say: values of a config, plug-ins, numbers, colors."""

import argparse
import math
from collections.abc import Sequence

from dreamfusion_jax.errors import UserError

_PLUGIN = "--plugin"


def joined(arguments: Sequence[str]) -> list[str]:
    """Return arguments with `--config.KEY VALUE` written as `--config.KEY=VALUE`, --plugin too.

    Raises:
      UserError: one of them has no value.
    """
    found: list[str] = []
    waiting = False
    for argument in arguments:
        if waiting and argument.startswith("--"):
            raise _no_value(found[-1])
        if waiting:
            found[-1] += f"={argument}"
        else:
            found.append(argument)
        waiting = not waiting and _wants_value(argument)
    if waiting:
        raise _no_value(found[-1])
    return found


def _wants_value(argument: str) -> bool:
    return argument == _PLUGIN or (argument.startswith("--config.") and "=" not in argument)


def _no_value(option: str) -> UserError:
    return UserError(f"{option} has no value; write {option}=VALUE.")


def split_plugins(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files of --plugin=FILE, and the other arguments."""
    option = f"{_PLUGIN}="
    files = [argument.removeprefix(option) for argument in arguments if argument.startswith(option)]
    return files, [argument for argument in arguments if not argument.startswith(option)]


def config_values(rest: Sequence[str]) -> dict[str, str]:
    """Return the values of --config.KEY=VALUE by key.

    Raises:
      UserError: there is anything else among what the parser of a command left.
    """
    return dict(_config_value(argument) for argument in rest)


def _config_value(argument: str) -> tuple[str, str]:
    key, equals, value = argument.partition("=")
    if not argument.startswith("-"):
        raise UserError(
            f"The argument {argument!r} is one too many; a prompt of several words stands in "
            "quotes."
        )
    if not key.startswith("--config.") or not equals:
        raise UserError(
            f"The argument {argument!r} is not known; config values are written "
            "--config.KEY=VALUE (see --help)."
        )
    return key.removeprefix("--config."), value


def add_step(parser: argparse.ArgumentParser) -> None:
    """Add --step, of a run's checkpoint."""
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")


def whole_numbers(text: str) -> list[int]:
    """Return the numbers of --seeds; raise a UserError for what is none."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds takes whole numbers with commas, not {text!r}.") from error


def angles(text: str) -> tuple[float, ...]:
    """Return azimuth and elevation of --light in degrees; raise a UserError for what is none."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 2 or not all(math.isfinite(x) for x in numbers):
        raise UserError(f"--light takes AZIMUTH,ELEVATION in degrees, not {text!r}.")
    return numbers


def color(text: str) -> tuple[float, ...]:
    """Return red, green and blue in [0, 1] of #rrggbb or a name; raise a UserError for others."""
    from PIL import ImageColor

    try:
        return tuple(x / 255 for x in ImageColor.getrgb(text)[:3])
    except ValueError as error:
        raise UserError(f"{text!r} is no color; write #rrggbb or a name.") from error


def words(text: str) -> list[str]:
    """Return what stands between commas."""
    return [word for word in text.split(",") if word]
