"""metrics.jsonl: one line a logged step, safe to cut off and to go on with. TensorBoard's copy."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorboardX

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.files import read_rows, write_bytes

FILE, EVENTS = "metrics.jsonl", "tensorboard"
_FLUSH = 10  # seconds


class MetricsLog:
    """Appends lines {"step": ..., name: value, ...}; a resumed run drops what it repeats.

    tensorboard/ gets the same numbers, and pictures. Raises UserError where the disk is full.
    """

    def __init__(self, workdir: Path, *, resume_step: int = 0):
        self._path = workdir / FILE
        kept = [row for row in read_metrics(workdir) if row["step"] <= resume_step]
        write_bytes(self._path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._events = tensorboardX.SummaryWriter(
            str(workdir / EVENTS),
            purge_step=resume_step + 1,
            flush_secs=_FLUSH,
            filename_suffix=f".{resume_step}",  # the name has whole seconds only
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Appends one line."""
        try:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step} | values) + "\n")
        except OSError as error:
            raise UserError(
                f"Cannot write {self._path} ({error.strerror}); make room, then repeat the "
                "command to go on from the last checkpoint."
            ) from error
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def picture(self, step: int, image: PIL.Image.Image) -> None:
        """Adds a preview to tensorboard/."""
        self._events.add_image("preview", np.asarray(image), step, dataformats="HWC")

    def close(self) -> None:
        """Writes what has yet to be written."""
        self._events.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """All complete lines of a run's metrics; [] if there are none."""
    return read_rows(Path(workdir) / FILE)


def minutes_of(rows: list[dict[str, Any]], views: int) -> float | None:
    """The time that a run's logged steps took, of `views` views each; None without any."""
    steps = np.diff([0, *(row["step"] for row in rows)])
    rates = [row.get("views_per_second", 0.0) for row in rows]
    if not rates or min(rates) <= 0:
        return None
    return round(float(np.sum(steps * views / np.array(rates))) / 60, 2)


def first_non_finite(metrics: dict[str, np.ndarray]) -> tuple[int, str] | None:
    """The first index, and the name, of a value that is NaN or infinite; None if all are finite."""
    found = [
        (int(np.flatnonzero(~np.isfinite(values))[0]), name)
        for name, values in metrics.items()
        if not np.all(np.isfinite(values))
    ]
    return min(found) if found else None


def means(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """The mean over steps of every metric, rounded to 6 significant digits."""
    return {name: _round(float(np.mean(values))) for name, values in metrics.items()}


def _round(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
