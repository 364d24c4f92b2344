"""Checkpoints on disk: the only file that imports orbax."""

import contextlib
import dataclasses
import functools
import hashlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from dreamfusion_jax.config import load_config
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import is_number, local_path, read_json, write_bytes
from dreamfusion_jax.scene.base import Scene
from dreamfusion_jax.scene.convert import Fit, shapes
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.train.stage import scene_of

FOLDER = "checkpoints"
FORMAT = 1  # of a checkpoint: items named as the fields of TrainState, and what is in _ABOUT
_ABOUT = "about"  # beside the items: {"format": FORMAT, "checksums": {item: {path: digest}}}
_ELSEWHERE = "choose another --workdir"
_ROOM = f"free some space or {_ELSEWHERE}"
_GO_ON = "repeat the command to go on from the last good checkpoint"
_TRIES = 10  # to read what another process replaces


def _sums_of(tree: Any) -> dict[str, str]:
    """Return a digest of the type, shape and numbers of every array, by its path in a tree."""
    return {
        jax.tree_util.keystr(path): _sum_of(np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _sum_of(array: np.ndarray) -> str:
    about = f"{array.dtype} {array.shape} ".encode()
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(about + data.tobytes(), digest_size=16).hexdigest()


def _is_about_room(error: BaseException) -> bool:
    words = ("no space", "quota", "file too large", "resource_exhausted", "enospc")
    return any(word in str(error).lower() for word in words)


@contextlib.contextmanager
def _failing_in_silence() -> Iterator[None]:
    """Let what orbax does in threads fail without a word there: here it is raised as well.

    After a failure the silence stays, as the other threads go on to fail.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level

    def without_closed_loops(failure):
        if str(failure.exc_value) != "Event loop is closed":
            hook(failure)

    logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = without_closed_loops
    yield
    logger.setLevel(level)
    sys.unraisablehook = hook


class Checkpoints:
    """The numbered checkpoints of one folder; a write is complete or not there at all.

    Orbax writes into a temporary folder and renames it, so a process that is killed
    while saving leaves the earlier checkpoints as they were.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2):
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            create=False,
            # Whoever makes this object works alone: other hosts are not waited for.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(), active_processes={jax.process_index()}
            ),
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest_step(self) -> int | None:
        """Return the newest step on disk, None if there is none."""
        return self._manager.latest_step()

    def all_steps(self) -> list[int]:
        """Return the steps on disk, oldest first."""
        return sorted(self._manager.all_steps())

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps."""
        for later in self.all_steps():
            if later > step:
                self._manager.delete(later)

    def save(self, step: int, items: dict[str, Any]) -> None:
        """Write named pytrees of arrays as checkpoint `step`.

        Raises:
          UserError: the disk is full or not writable; earlier checkpoints are kept.
        """
        host = jax.tree.map(np.asarray, jax.device_get(items))
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(host))
        free = shutil.disk_usage(self.folder).free
        if free < need:
            raise UserError(
                f"The checkpoint of step {step} needs {need / 1e6:.1f} MB, and {free / 1e6:.1f} MB "
                f"are free at {self.folder}; {_ROOM}, then {_GO_ON}."
            )
        args = {name: ocp.args.StandardSave(tree) for name, tree in host.items()}
        sums = {name: _sums_of(tree) for name, tree in host.items()}
        args[_ABOUT] = ocp.args.JsonSave({"format": FORMAT, "checksums": sums})
        try:
            with _failing_in_silence():
                self._manager.save(step, args=ocp.args.Composite(**args))
                self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            what_to_do = _ROOM if _is_about_room(error) else f"see to that or {_ELSEWHERE}"
            raise UserError(
                f"The checkpoint of step {step} could not be written to {self.folder} "
                f"({_first_line(error)}); {what_to_do}, then {_GO_ON}."
            ) from error

    def restore(self, like: dict[str, Any], step: int | None = None) -> dict[str, Any]:
        """Read items of a checkpoint (the newest by default) into the structures of `like`.

        Only the items named in `like` are read, and of these those that are there.

        Raises:
          UserError: the checkpoint is damaged, or its shapes are not those of `like`.
        """
        step = self.latest_step() if step is None else step
        if step is None:
            raise UserError(f"There is no checkpoint in {self.folder}.")
        about = self._about(step)
        like = {name: tree for name, tree in like.items() if name in about["checksums"]}
        if "params" not in like:
            raise UserError(f"Checkpoint {self.folder / str(step)} has no parameters.")
        shapes = jax.tree.map(
            lambda x: np.zeros(np.shape(x), getattr(x, "dtype", np.asarray(x).dtype)), like
        )
        args = {name: ocp.args.StandardRestore(tree) for name, tree in shapes.items()}
        try:
            with _failing_in_silence():
                composite = ocp.args.Composite(**args)
                restored = dict(self._manager.restore(step, args=composite).items())
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise UserError(
                f"Checkpoint {self.folder / str(step)} cannot be read: it is damaged or was "
                f"written with another config ({_first_line(error)}); remove that folder to go "
                "on from an earlier one."
            ) from error
        for have, want in zip(jax.tree.leaves(restored), jax.tree.leaves(shapes), strict=True):
            if np.shape(have) != np.shape(want):
                raise UserError(
                    f"Checkpoint {self.folder / str(step)} was written with another config: an "
                    f"array has shape {np.shape(have)}, this config needs {np.shape(want)}."
                )
        for name, tree in restored.items():
            self._check_sums(step, name, tree, about["checksums"][name])
        return restored

    def _about(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint says of itself."""
        args = ocp.args.Composite(**{_ABOUT: ocp.args.JsonRestore()})
        where = self.folder / str(step)
        if where.is_dir() and not (where / _ABOUT).is_dir():
            raise UserError(
                f"Checkpoint {where} is damaged or was not written by this version of the program: "
                f"it has no {_ABOUT!r}; remove that folder to go on from an earlier one."
            )
        try:
            with _failing_in_silence():
                about = self._manager.restore(step, args=args)[_ABOUT]
            found = about["format"], about["checksums"]
        except Exception as error:  # orbax and tensorstore raise many kinds
            raise UserError(
                f"Checkpoint {where} cannot be read: it is damaged ({_first_line(error)}); remove "
                "that folder to go on from an earlier one."
            ) from error
        if found[0] != FORMAT or not isinstance(found[1], dict):
            raise UserError(
                f"Checkpoint {where} is of format {found[0]!r:.40}, and this version of the "
                f"program reads {FORMAT}; use the version that wrote it."
            )
        return about

    def _check_sums(self, step: int, name: str, tree: Any, sums: dict[str, str]) -> None:
        found = _sums_of(tree)
        changed = [path for path in found if sums.get(path) != found[path]]
        if changed:
            earlier = [s for s in self.all_steps() if s < step]
            on = f" to go on from step {earlier[-1]}" if earlier else ""
            raise UserError(
                f"Checkpoint {self.folder / str(step)} is damaged: the numbers of {name}"
                f"{changed[0]} are not those that were written; remove that folder{on}."
            )

    def close(self) -> None:
        """Wait for what is still being written."""
        self._manager.close()


def saved_steps(folder: Path) -> set[int]:
    """Return the steps of the checkpoints in a folder, which need not exist."""
    return {int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()}


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished or interrupted run, read from its workdir: its scene and parameters at a step."""

    config: ml_collections.ConfigDict
    scene: Scene
    params: Any
    step: int


def restore_run(workdir: str | Path, step: int | None = None) -> Run:
    """Read the config and the scene parameters of a workdir, the newest or those of a step.

    Raises:
      UserError: there is no run, or no checkpoint that can be read.
    """
    workdir = local_path(workdir)
    config = read_config(workdir)
    folder = workdir / FOLDER
    if not folder.is_dir():
        raise UserError(f"{workdir} has no checkpoint yet; let `dreamfusion generate` get further.")
    try:
        scene_of(config, 0)
        config = _with_view_settings(config)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{workdir}/config.json was not written by this version of the program "
            f"({_first_line(error)}); make the run again in another --workdir."
        ) from error
    like = functools.partial(_params_like, config)
    params, step = _newest_params(folder, like) if step is None else _params_at(folder, like, step)
    return Run(config, scene_of(config, step), params, step)


def _params_like(config: ml_collections.ConfigDict, step: int) -> Any:
    return jax.eval_shape(scene_of(config, step).init, jax.random.key(0))


def run_to_start_from(workdir: str | Path, scene: Scene) -> Run:
    """Read another run whose newest scene this one can start from.

    Raises:
      UserError: there is no such run, or its scene is of another kind; but what is no field, as the
        surface that a run ended with, a field can begin as.
    """
    run = restore_run(workdir)
    to_field = isinstance(scene, NerfScene) and not isinstance(run.scene, NerfScene)
    if not to_field and not _fits(run.params, scene):
        raise UserError(
            f"The scene in {workdir} cannot be started from: its config.scene is of another kind "
            "or size than this run's."
        )
    return run


def scene_to_start_from(workdir: str | Path, scene: Scene) -> Any:
    """Return the newest parameters of another run, fitted where its scene is no field.

    Raises:
      UserError: as `run_to_start_from`.
    """
    run = run_to_start_from(workdir, scene)
    if _fits(run.params, scene):
        return run.params
    fit = jax.jit(lambda params, key: Fit()(run.scene, params, scene, run.step, key))
    return jax.device_get(fit(run.params, jax.random.key(0)))


def _fits(params: Any, scene: Scene) -> bool:
    wanted = jax.eval_shape(scene.init, jax.random.key(0))
    return bool(shapes(params) == shapes(wanted))


def _newest_params(folder: Path, like: Callable[[int], Any]) -> tuple[Any, int]:
    """Return the newest checkpoint's parameters and step, also while another process trains."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):  # that process has just removed an old one
            return _newest_of(Checkpoints(folder), like)
        time.sleep(0.1)
    return _newest_of(Checkpoints(folder), like)


def _params_at(folder: Path, like: Callable[[int], Any], step: int) -> tuple[Any, int]:
    if step not in (saved := saved_steps(folder)):
        steps = ", ".join(map(str, sorted(saved))) or "none"
        raise UserError(f"There is no checkpoint of step {step} in {folder}; there are: {steps}.")
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        return checkpoints.restore({"params": like(step)}, step)["params"], step


def _newest_of(checkpoints: Checkpoints, like: Callable[[int], Any]) -> tuple[Any, int]:
    step = checkpoints.latest_step()
    try:
        if step is None:
            raise UserError(f"There is no checkpoint in {checkpoints.folder}.")
        return checkpoints.restore({"params": like(step)}, step)["params"], step
    finally:
        checkpoints.close()


def _with_view_settings(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Return a run's config; what an older version lacks of how results are shown is `paper`'s."""
    for part in ("export", "eval_camera"):
        known = load_config("paper")[part]
        for key, value in known.items():
            have = config[part].get(key, value)
            if type(have) is not type(value) and not (is_number(have) and isinstance(value, float)):
                raise TypeError(f"{part}.{key} is {have!r:.40}")
        with config.unlocked():
            for key in set(known) - set(config[part]):
                config[part][key] = known[key]
    return config


def write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Write config.json, whole or not at all; raises UserError where it cannot."""
    text = config.to_json_best_effort(indent=2) + "\n"
    write_bytes(workdir / "config.json", text.encode())


def read_config(workdir: str | Path) -> ml_collections.ConfigDict:
    """Read config.json of a run.

    Raises:
      UserError: the folder holds no run, or the file is damaged.
    """
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} is not the folder of a run: it has no config.json.")
    try:
        return ml_collections.ConfigDict(_tuples(read_json(path))).lock()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({_first_line(error)}).") from error


def _tuples(value: Any) -> Any:
    # JSON knows no tuples; modules must stay hashable.
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]
