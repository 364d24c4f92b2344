"""SIGTERM, with which clouds and clusters take a machine back."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from dreamfusion_jax.train.parallel import any_host


@contextlib.contextmanager
def watch_for_sigterm() -> Iterator[Callable[[], bool]]:
    """Within the context SIGTERM does not end the process: it is noted.

    Yields:
      A function that says whether any host has received SIGTERM; all hosts must call it
      together, and get the same answer. Outside the main thread, where Python delivers no
      signals, it says no.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: any_host(False)
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.set())
    try:
        yield lambda: any_host(received.is_set())
    finally:
        signal.signal(signal.SIGTERM, previous)
