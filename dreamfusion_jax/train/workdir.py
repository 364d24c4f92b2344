"""Who owns a folder of results: nothing of another run is ever overwritten."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import local_path, read_json, write_bytes
from dreamfusion_jax.train.checkpoint import read_config, write_config

PROMPTS_FILE = ".prompts.json"  # hidden: `evaluate FOLDER/*` shall see the runs only

# What may change between two calls of the same run: how results are shown, and what a scene
# is optimized beside.
_FREE = (
    "export.",
    "eval_camera.",
    "sheet.",
    "train.checkpoint_every",
    "train.preview_every",
    "train.scenes_per_batch",
)


def runs_in(sources: Sequence[str | Path]) -> list[Path]:
    """Return the folders themselves, and in place of a folder of runs those of its runs.

    FOLDER/* names other things too: a sweep's page and trained models are left out.
    """
    found: list[Path] = []
    for source in map(local_path, sources):
        if source.name == "index.html":
            continue
        inside = sorted(path.parent for path in source.glob("*/config.json"))
        for folder in inside if inside and not (source / "config.json").is_file() else [source]:
            if (folder / "config.json").is_file() and "prompt" not in read_config(folder):
                print(f"{folder} is no run of a prompt, and is left out.", file=sys.stderr)
            else:
                found.append(folder)
    return found


def create_or_check_workdir(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Make a new workdir, or checks that an existing one belongs to the same run.

    Raises:
      UserError: the folder is not writable, holds something else, or a run with another
        prompt or config. Nothing in it is touched.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if is_empty(workdir):
            write_config(workdir, config)
    except OSError as error:
        raise _not_writable(workdir, error) from error
    if not (workdir / "config.json").is_file():
        raise UserError(
            f"{workdir} is not empty and holds no run; choose another folder with --workdir."
        )
    different = _differences(read_config(workdir), config)
    if different:
        key, old, new = different[0]
        on = ""
        if key == "train.steps":
            on = f" To go on from its scene, with schedules of its own: --init={workdir}."
        raise UserError(
            f"{workdir} holds a run with {key} {old!r}, not {new!r}; choose another folder "
            f"with --workdir, or delete this one.{on}"
        )
    write_config(workdir, config)  # what may change is now as asked for


# What a file system without any locks answers. Others may have them and be out of order.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def lock_workdir(*folders: Path) -> Iterator[None]:
    """Keep other processes of this machine out of folders, which are made where missing.

    The lock ends with the process, however that ends; nothing is written.

    Raises:
      UserError: another process is at work in a folder.
    """
    with contextlib.ExitStack() as held:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            held.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"Another process is at work in {folder}; wait for it, or choose another "
                    "folder with --workdir."
                ) from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise UserError(
                        f"Cannot tell whether another process is at work in {folder} "
                        f"({error.strerror}); choose another folder with --workdir."
                    ) from error
        yield


def create_or_check_folder(folder: Path, prompts: Sequence[str]) -> None:
    """Make the folder of several prompts' runs, or checks that it belongs to the same ones.

    Raises:
      UserError: the folder is not writable, holds something else, or other prompts.
    """
    path = folder / PROMPTS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_empty(folder):
            _write_prompts(path, prompts)
    except OSError as error:
        raise _not_writable(folder, error) from error
    if not path.is_file():
        raise UserError(
            f"{folder} is not empty and holds no runs of a prompts file; choose another folder "
            "with --workdir."
        )
    try:
        known = read_json(path, list)
    except ValueError as error:
        raise UserError(f"{path} is damaged; choose another folder with --workdir.") from error
    if known != list(prompts) and not any(folder.glob("*/config.json")):  # no run was started
        _write_prompts(path, prompts)
    elif known != list(prompts):
        changed = [p for p in (*prompts, *known) if (p in prompts) != (p in known)]
        what = f"{changed[0]!r} is in one only" if changed else "their order differs"
        raise UserError(
            f"{folder} holds the runs of other prompts ({what}); choose another folder with "
            "--workdir."
        )


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing that anybody would miss.

    What file managers leave, and what this program leaves where it is killed at once, counts as
    nothing.
    """
    known = (".DS_Store", "Thumbs.db", "desktop.ini")
    unfinished = (".config-????????.json", ".prompts-????????.json")
    return all(
        path.name in known or any(path.match(pattern) for pattern in unfinished)
        for path in folder.iterdir()
    )


def _write_prompts(path: Path, prompts: Sequence[str]) -> None:
    write_bytes(path, (json.dumps(list(prompts), indent=1) + "\n").encode())


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"Cannot write to {folder} ({error.strerror}); choose another folder with --workdir."
    )


def _differences(old: ml_collections.ConfigDict, new: ml_collections.ConfigDict) -> list[tuple]:
    a, b = _flat(old.to_dict()), _flat(new.to_dict())
    keys = dict.fromkeys(itertools.chain(b, a))
    return [
        (key, a.get(key), b.get(key))
        for key in keys
        if a.get(key) != b.get(key) and not key.startswith(_FREE)
    ]


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
