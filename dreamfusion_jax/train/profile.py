"""Traces of some steps of a run, for XProf and TensorBoard."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from dreamfusion_jax.errors import UserError

FOLDER = "profile"


def steps_to_profile(text: str | None, steps: int) -> range | None:
    """Read N:M, the steps from N to M - 1 of a run, which are counted from 0; None is none.

    Raises:
      UserError: it is of another form, empty, or ends after the run.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text, re.ASCII)
    chosen = range(*map(int, match.groups())) if match else range(0)
    if not chosen or chosen.stop > steps:
        raise UserError(
            f"--profile takes N:M, the steps from N to M - 1, with N < M and M at most the "
            f"{steps} steps of the run, not {text!r}."
        )
    return chosen


class Profile:
    """Writes one trace of jax.profiler into `workdir`/profile.

    A program call runs several steps (config.train.steps_per_call): the trace holds all calls that
    contain some of the chosen steps, whole. It has no previews and no checkpoints in it, unless
    these happen between two of its calls.
    """

    def __init__(self, steps: range, workdir: Path):
        self._steps, self._folder = steps, workdir / FOLDER
        self._first, self._end = -1, -1  # of the recorded steps
        self._done = 0  # the step that the last call has reached

    @contextlib.contextmanager
    def around_call(self, step: int, count: int) -> Iterator[None]:
        """Surround the call that runs `count` steps from `step` on, until its results are there.

        A trace that cannot be made is said, and does not end the run.
        """
        due = step < self._steps.stop and step + count > self._steps.start
        if due and self._first < 0:
            self._first = step
            self._try(self._start)
        with jax.profiler.StepTraceAnnotation("call", step_num=step):
            yield
        self._done = step + count
        if self.running and self._done >= self._steps.stop:
            self._stop(self._done)

    @property
    def running(self) -> bool:
        """Whether a trace is being recorded."""
        return self._first >= 0 > self._end

    def close(self) -> None:
        """End a trace that a stopped run has left open."""
        if self.running:
            self._stop(self._done)

    def say_if_none(self) -> None:
        """Tell of a run that has ended without any of the steps."""
        if self._first < 0:
            wanted = f"{self._steps.start}:{self._steps.stop}"
            print(f"The steps {wanted} were done before: no profile of them.", file=sys.stderr)

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)  # JAX would only try when it stops
        jax.profiler.start_trace(self._folder)

    def _stop(self, end: int) -> None:
        self._end = end
        if self._try(jax.profiler.stop_trace):
            print(
                f"The steps {self._first}:{end} are profiled in {self._folder}; look at them with "
                f"`pip install xprof` and `xprof --logdir={self._folder}`.",
                file=sys.stderr,
            )

    def _try(self, function: Callable[[], None]) -> bool:
        try:
            function()
        except Exception as error:  # of whatever kind XLA raises
            self._end = self._steps.stop
            print(f"No profile can be written to {self._folder}: {error}", file=sys.stderr)
            return False
        return True


@contextlib.contextmanager
def profiling(steps: range | None, workdir: Path) -> Iterator[Callable | None]:
    """Yield the `around_call` of a run whose `steps` are profiled; None where these are None."""
    if steps is None:
        yield None
        return
    with contextlib.closing(Profile(steps, workdir)) as profile:
        yield profile.around_call
        profile.say_if_none()
