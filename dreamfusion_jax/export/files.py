"""Result files: written so that a reader never meets half of one, and read."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from dreamfusion_jax.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder; on success it takes `path`'s place.

    On any error the temporary file goes away and an existing `path` stays as it was.

    Raises:
      UserError: the file cannot be written (no permission, no space, no folder).
    """
    target = pathlib.Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
        )
        os.close(handle)
        temporary = pathlib.Path(name)
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would keep a web server from serving it
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"Cannot write {target} ({reason}); make room or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a whole file at once.

    Raises:
      UserError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines {"step": ..., ...} of a metrics.jsonl; [] where there is no file.

    A last line that a crash cut off is left out.
    """
    path, rows = pathlib.Path(path), []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict) and "step" in row]
