"""The page of a folder of runs: how far each is, what it looks like, and its scores."""

import html
import os
from pathlib import Path
from typing import Any

from dreamfusion_jax.export.report import page
from dreamfusion_jax.io import read_json, read_rows, write_bytes

_STYLE = "<style>.timeline{grid-template-columns:repeat(auto-fill,minmax(240px,1fr))}</style>"


def write_index(folder: str | os.PathLike) -> Path:
    """Writes index.html of a folder of runs, from what lies in it.

    Pictures and reports are linked, so the page moves with its folder only.

    Args:
      folder: of the runs, each with a config.json.

    Returns:
      The path of the page.

    Raises:
      UserError: the page cannot be written.
    """
    folder = Path(folder)
    runs = sorted(path.parent for path in folder.glob("*/config.json"))
    done = [run for run in runs if _step(run) == _steps(run)]
    body = (
        f"<header><p>{len(done)} of {len(runs)} runs are finished</p>"
        f"<h1>{html.escape(folder.name)}</h1></header>{_STYLE}<main>"
        f'<section class="wide"><div class="timeline">{"".join(map(_figure, runs))}</div>'
        "</section></main>"
    )
    target = folder / "index.html"
    write_bytes(target, page(folder.name, body).encode())
    return target


def _step(run: Path) -> int:
    """The last step that is logged."""
    rows = read_rows(run / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def _steps(run: Path) -> int:
    return (_read(run / "config.json") or {}).get("train", {}).get("steps", -1)


def _figure(run: Path) -> str:
    config = _read(run / "config.json") or {}
    name = html.escape(str(config.get("prompt", run.name)))
    lines = [f"<b>{name}</b>", f"seed {config.get('seed', '?')}"]
    if (run / "report.html").is_file():
        lines[0] = f'<a href="{run.name}/report.html">{lines[0]}</a>'
    if _step(run) != _steps(run):
        lines.append(f"step {_step(run)} of {_steps(run)}")
    scores = _read(run / "evaluation.json")
    if scores and isinstance(scores.get("scores"), dict):
        lines.append(f"IoU {scores['scores'].get('iou')}, PSNR {scores['scores'].get('psnr')} dB")
    previews = sorted(run.glob("previews/*.png"), key=lambda path: (len(path.stem), path.stem))
    source = f"{run.name}/previews/{previews[-1].name}" if previews else ""
    picture = f'<img src="{source}" alt="{name}">' if source else ""
    return f"<figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
