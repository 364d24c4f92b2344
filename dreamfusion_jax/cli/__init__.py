"""The `dreamfusion` command. Its commands are parts of the registry: see `parser.Command`."""

import logging
import sys
from collections.abc import Sequence

from dreamfusion_jax import registry
from dreamfusion_jax.cli.options import config_values, joined, split_plugins
from dreamfusion_jax.cli.parser import make_parser
from dreamfusion_jax.errors import Preempted, UserError

for _name in ("generate", "render", "view", "export", "sample", "evaluate"):
    registry.declare("command", _name, f"dreamfusion_jax.cli.{_name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 2 for bad input, 130 after Ctrl-C, else 0."""
    logging.basicConfig(format="dreamfusion: %(message)s")
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"dreamfusion: {error}", file=sys.stderr)
        return 2
    except Preempted as stop:
        print(f"dreamfusion: {stop}; repeat the command to go on.", file=sys.stderr)
    except KeyboardInterrupt:
        print("dreamfusion: stopped; repeat the command to go on.", file=sys.stderr)
        return 130
    return 0


def _run(arguments: Sequence[str]) -> None:
    plugins, arguments = split_plugins(joined(arguments))
    for file in plugins:
        registry.import_plugin(file)
    options, rest = make_parser().parse_known_args(arguments)
    name, values = vars(options).pop("command"), config_values(rest)
    if hasattr(options, "config"):
        options.overrides = values
    elif values:
        raise UserError(f"`dreamfusion {name}` takes no --config values.")
    from dreamfusion_jax.startup import prepare_jax  # imports JAX: not for --help
    from dreamfusion_jax.train.parallel import check_devices
    from dreamfusion_jax.train.preemption import stop_on_signals

    prepare_jax()
    with stop_on_signals():
        if name != "generate":  # which may join other hosts first
            check_devices()
        registry.class_of("command", name).run(options)
