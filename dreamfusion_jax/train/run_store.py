"""The folders of the scenes that are optimized together: checkpoints and metrics of each.

One host writes, and reads for all others: the folders need not be shared.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.checkpoint import FOLDER, Checkpoints, saved_steps
from dreamfusion_jax.train.metrics import MetricsLog, first_non_finite, means
from dreamfusion_jax.train.parallel import broadcast, on_primary
from dreamfusion_jax.train.state import TrainState, stack_scenes, take_scene
from dreamfusion_jax.train.workdir import lock_workdir


@dataclasses.dataclass(frozen=True)
class Job:
    """One scene of a run: what it shall become, its seed, and where its results go.

    `prior_prompt` is what the prior is asked for, where that is not the prompt itself.
    """

    prompt: str
    seed: int
    workdir: Path
    prior_prompt: str = ""


def plan(jobs: Sequence[Job], size: int, last_step: int) -> list[list[Job]]:
    """Return which scenes to optimize together, at most `size`, but for those at their last step.

    Only scenes that can go on from a common step share a group, or that have yet to start:
    what was made of one alone is not thrown away to wait for another.
    """
    numbers = on_primary(lambda: np.array(_group_numbers(jobs, size, last_step), np.int32))
    numbers = broadcast(np.zeros(len(jobs), np.int32) if numbers is None else numbers)
    groups: list[list[Job]] = [[] for _ in range(int(numbers.max()) + 1)]
    for job, number in zip(jobs, numbers.tolist(), strict=True):
        if number >= 0:
            groups[number].append(job)
    return groups


def _group_numbers(jobs: Sequence[Job], size: int, last_step: int) -> list[int]:
    numbers: list[int] = []
    common: list[set[int]] = []
    for job in jobs:
        saved = saved_steps(job.workdir / FOLDER)
        if last_step in saved:
            numbers.append(-1)
            continue
        fitting = (
            i
            for i, steps in enumerate(common)
            if numbers.count(i) < size and (steps & saved or not (steps or saved))
        )
        number = next(fitting, len(common))
        if number == len(common):
            common.append(saved)
        common[number] = common[number] & saved
        numbers.append(number)
    return numbers


# The fields of a TrainState that are items of a checkpoint; what is None is left out.
_ITEMS = ("params", "opt_state", "scene_state", "guidance_params", "guidance_opt_state")


class RunStore:
    """Saves, restores and logs several scenes, each in a folder of its own.

    A folder does not tell whether its scene was optimized alone or with others, and may be
    gone on with either way.
    """

    def __init__(self, jobs: Sequence[Job]):
        self._jobs = tuple(jobs)
        self._held = contextlib.ExitStack()
        on_primary(
            lambda: self._held.enter_context(lock_workdir(*(job.workdir for job in self._jobs)))
        )
        made = on_primary(lambda: [Checkpoints(job.workdir / FOLDER) for job in self._jobs])
        self._checkpoints = made or []
        self._logs: list[MetricsLog] = []

    def restore(self, start: TrainState, like: Callable[[int], TrainState]) -> TrainState:
        """Return the newest state that all scenes have on disk, or `start` where there is none.

        Scenes are saved one after the other: some may have a later one, which is dropped.

        Args:
          start: before the first step.
          like: gives a fresh state of the shapes that there are at a step: items that a checkpoint
            has not are taken from it.

        Raises:
          UserError: a checkpoint cannot be read or is of another config.
        """
        host = jax.device_get(start)
        step = on_primary(self._common_step)
        step = int(broadcast(np.int32(0 if step is None else step)))
        if step:
            host = like(step)
            found = on_primary(lambda: self._read(host, step))
            host = broadcast(host if found is None else found)
        logs = on_primary(lambda: [MetricsLog(job.workdir, resume_step=step) for job in self._jobs])
        self._logs = logs or []
        return host

    def save(self, state: TrainState) -> None:
        """Write a checkpoint of every scene that has not got this step yet."""
        host = jax.device_get(state)

        def write():
            for i, checkpoints in enumerate(self._checkpoints):
                if checkpoints.latest_step() != int(host.step):
                    checkpoints.save(int(host.step), _items(take_scene(host, i)))

        on_primary(write)

    def log(self, step: int, metrics: dict[str, np.ndarray], rate: float, seconds: float) -> None:
        """Append the means over some steps, of metrics [steps, scenes], to every metrics.jsonl.

        Args:
          step: the last of these steps.
          metrics: by name, each [steps, scenes].
          rate: views a second, of all scenes.
          seconds: that a scene took for these steps; what it was optimized beside has its share.
        """
        spent = {"views_per_second": round(rate, 3), "seconds": round(seconds, 3)}

        def write():
            for i, log in enumerate(self._logs):
                own = means({name: values[:, i] for name, values in metrics.items()})
                log.write(step, own | spent)

        on_primary(write)

    def preview(
        self, step: int, draw: Callable[[Job, Any], PIL.Image.Image | None], params: Any
    ) -> None:
        """Call draw(job, params of its scene) for every scene, and logs what it returns."""
        logs = dict(zip(self._jobs, self._logs or (), strict=False))

        def call(job: Job, own: Any) -> None:
            image = draw(job, own)
            if image is not None:
                logs[job].image(step, image)

        self.each(call, params)

    def each(self, function: Callable[[Job, Any], None], params: Any) -> None:
        """Call function(job, params of its scene) for every scene, on the host that writes."""
        host = jax.device_get(params)

        def call():
            for i, job in enumerate(self._jobs):
                function(job, jax.tree.map(lambda leaf, i=i: leaf[i], host))

        on_primary(call)

    def stop_if_not_finite(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Raise a UserError that names the step, the scene and the last good checkpoint."""
        for i, job in enumerate(self._jobs):
            found = first_non_finite({name: values[:, i] for name, values in metrics.items()})
            if found is None:
                continue
            index, name = found
            good = self._checkpoints[i].latest_step() if self._checkpoints else None
            last = f"the last good checkpoint is step {good}" if good else "no checkpoint yet"
            raise UserError(
                f"{name} of {job.prompt!r} is not finite at step {step + index + 1}, so the run "
                f"has stopped ({last} in {job.workdir / FOLDER}); try a smaller "
                "--config.optim.learning_rate or another --seed."
            )

    def close(self) -> None:
        """Wait for what is still being written, and lets others use the folders."""
        for open_file in (*(self._checkpoints or ()), *(self._logs or ())):
            open_file.close()
        self._held.close()

    def _common_step(self) -> int | None:
        common = set.intersection(*(set(c.all_steps()) for c in self._checkpoints))
        if not common and any(c.all_steps() for c in self._checkpoints):
            raise UserError(
                "The scenes have no step in common and cannot go on together: "
                + ", ".join(str(job.workdir) for job in self._jobs)
            )
        step = max(common, default=None)
        for checkpoints in self._checkpoints:
            checkpoints.drop_after(step or 0)
        return step

    def _read(self, like: TrainState, step: int) -> TrainState:
        scenes = []
        for i, checkpoints in enumerate(self._checkpoints):
            own = take_scene(like, i)
            found = checkpoints.restore(_items(own), step)
            scenes.append(dataclasses.replace(own, step=jnp.int32(step), **found))
        return stack_scenes(scenes)


def _items(state: TrainState) -> dict[str, Any]:
    """Return what a checkpoint holds, by name."""
    found = {name: getattr(state, name) for name in _ITEMS}
    return {name: tree for name, tree in found.items() if tree is not None}
