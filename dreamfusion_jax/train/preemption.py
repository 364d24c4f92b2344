"""Being asked to stop.

SIGTERM is how clouds and clusters take a machine back, SIGHUP a terminal that was closed, SIGINT
Ctrl-C.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from dreamfusion_jax.errors import Preempted
from dreamfusion_jax.train.parallel import max_over_hosts

# SIGHUP is not known everywhere. The largest number counts where hosts have got several.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGNALS = (signal.SIGINT, *_ENDING)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Within the context SIGTERM and SIGHUP raise Preempted, so that what is open is closed.

    While a scene is optimized `watch_for_signals` waits for the end of a call instead. A SIGHUP
    that is ignored, as under `nohup`, stays so.
    """

    terminals = _terminals()

    def stop(number, frame):
        _let_go(number, terminals)
        raise Preempted(f"stopped by {signal.Signals(number).name}")

    here = threading.current_thread() is threading.main_thread()
    wanted = [number for number in _ENDING if here and not _is_left_alone(number)]
    previous = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def watch_for_signals() -> Iterator[Callable[[], int]]:
    """Within the context the first of SIGNALS does not end the process: it is noted.

    A second Ctrl-C stops at once, with a KeyboardInterrupt.

    Yields:
      A function that says which signal any host has received, 0 for none; all hosts must
      call it together, and get the same answer. Outside the main thread, where Python
      delivers no signals, it says none.
    """
    received: list[int] = []
    terminals = _terminals()

    def note(number, frame):
        _let_go(number, terminals)
        if number == signal.SIGINT and number in received:
            raise KeyboardInterrupt
        received.append(number)
        print("\nStopping when this call is done ...", file=sys.stderr)

    here = threading.current_thread() is threading.main_thread()
    wanted = [number for number in SIGNALS if here and not _is_left_alone(number)]
    previous = {number: signal.signal(number, note) for number in wanted}
    try:
        yield lambda: max_over_hosts(max(received, default=0))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_left_alone(number: int) -> bool:
    hang_up = number == getattr(signal, "SIGHUP", None)
    return hang_up and signal.getsignal(number) == signal.SIG_IGN


def _terminals() -> list[int]:
    return [number for number in (1, 2) if os.isatty(number)]


def _let_go(number: int, terminals: list[int]) -> None:
    """After SIGHUP the terminal is gone, and writing to it would fail: the text goes nowhere."""
    if number == getattr(signal, "SIGHUP", None) and terminals:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for terminal in terminals:
            os.dup2(nowhere, terminal)
        os.close(nowhere)
