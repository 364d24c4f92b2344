"""metrics.jsonl: one line a logged step, safe to cut off and to go on with. TensorBoard's copy."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_rows, write_bytes

FILE, EVENTS = "metrics.jsonl", "tensorboard"


class MetricsLog:
    """Appends lines {"step": ..., name: value, ...}; a resumed run drops what it repeats.

    tensorboard/ gets the same numbers, and pictures. Raises UserError where the disk is full.
    """

    def __init__(self, workdir: Path, *, resume_step: int = 0):
        self._path = workdir / FILE
        kept = [row for row in read_metrics(workdir) if row["step"] <= resume_step]
        write_bytes(self._path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        folder = workdir / EVENTS
        with _room_in(folder):
            folder.mkdir(exist_ok=True)
            # The name has whole seconds only. Written at once: a thread would fail unseen.
            self._events = EventsWriter(str(folder / "events"), f".{resume_step}")
            # What an interrupted call has written from here on is dropped.
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(step=resume_step + 1, session_log=start))
            self._events.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one line."""
        with _room_in(self._path):
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step} | values) + "\n")
            self._add(step, *(summary.scalar(name, value) for name, value in values.items()))

    def image(self, step: int, image: PIL.Image.Image) -> None:
        """Add a preview to tensorboard/."""
        with _room_in(self._path):
            self._add(step, summary.image("preview", np.asarray(image), dataformats="HWC"))

    def _add(self, step: int, *found: Any) -> None:
        for one in found:
            self._events.write_event(Event(step=step, wall_time=time.time(), summary=one))
        self._events.flush()

    def close(self) -> None:
        """End the file; everything has been written."""
        with contextlib.suppress(OSError):  # what did not fit has been told
            self._events.close()


@contextlib.contextmanager
def _room_in(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write {path} ({error.strerror}); make room, then repeat the command to go on "
            "from the last checkpoint."
        ) from error


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Return all complete lines of a run's metrics; [] if there are none."""
    return read_rows(Path(workdir) / FILE)


def minutes_of(rows: list[dict[str, Any]]) -> float | None:
    """Return the time that a run's logged steps took; None where that is not known."""
    seconds = [row["seconds"] for row in rows if row.get("seconds") is not None]
    if not seconds or len(seconds) < len(rows):
        return None
    return round(float(np.sum(seconds)) / 60, 2)


def first_non_finite(metrics: dict[str, np.ndarray]) -> tuple[int, str] | None:
    """Return the first index, and the name, of a value that is not finite; None if all are."""
    found = [
        (int(np.flatnonzero(~np.isfinite(values))[0]), name)
        for name, values in metrics.items()
        if not np.all(np.isfinite(values))
    ]
    return min(found) if found else None


def means(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean over steps of every metric, rounded to 6 significant digits."""
    return {name: _round(float(np.mean(values))) for name, values in metrics.items()}


def _round(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
