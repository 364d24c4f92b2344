"""Options of a command that runs on several hosts."""

import argparse

from dreamfusion_jax.command_options import given
from dreamfusion_jax.errors import UserError


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Add the options that `join_hosts` reads."""
    hosts = parser.add_argument_group("several hosts", "Run the same command on every host.")
    hosts.add_argument(
        "--distributed",
        choices=("auto", "on", "off"),
        default="auto",
        help="join the other hosts of a TPU pod, Slurm or Open MPI job, as JAX finds them; auto: "
        "where the environment names several (default: %(default)s)",
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    hosts.add_argument("--processes", type=int, help="how many processes there are")
    hosts.add_argument("--process", type=int, help="which of them this one is, from 0")
    hosts.add_argument(
        "--connect-timeout",
        dest="timeout",
        type=int,
        metavar="SECONDS",
        help="how long to wait for the others (default: 300)",
    )


def join_hosts(options: argparse.Namespace) -> bool:
    """Join the other hosts, where there are any; return whether this is the one that reports.

    Raises:
      UserError: the options contradict each other, or the others do not come.
    """
    from dreamfusion_jax.train import parallel

    how = given(options, "coordinator", "processes", "process", "timeout")
    named = "coordinator" in how
    half = not named and ("processes" in how or "process" in how)
    if half or (named and options.distributed == "off"):
        raise UserError(
            "Several hosts need --coordinator=HOST:PORT, --processes=N and --process=I together, "
            "and not --distributed=off."
        )
    auto = options.distributed == "auto" and (named or parallel.cluster_is_visible())
    if options.distributed == "on" or auto:
        parallel.initialize_distributed(**how)
        return parallel.is_primary()
    return True
