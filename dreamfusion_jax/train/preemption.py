"""Being asked to stop: SIGTERM, with which clouds and clusters take a machine back, and Ctrl-C."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from dreamfusion_jax.train.parallel import max_over_hosts

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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

    def note(number, frame):
        if number == signal.SIGINT and number in received:
            raise KeyboardInterrupt
        received.append(number)
        print("\nStopping when this call is done ...", file=sys.stderr)

    here = threading.current_thread() is threading.main_thread()
    previous = {number: signal.signal(number, note) for number in SIGNALS if here}
    try:
        yield lambda: max_over_hosts(max(received, default=0))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
