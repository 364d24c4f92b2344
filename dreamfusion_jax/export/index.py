"""The page of a folder of runs: how far each is, what it looks like, and its scores."""

import os
from pathlib import Path
from typing import Any

from dreamfusion_jax.export.markup import Html, fill, join, link_to
from dreamfusion_jax.export.report import page, prompt_in
from dreamfusion_jax.io import read_json, read_rows, write_bytes

_STYLE = Html("<style>.timeline{grid-template-columns:repeat(auto-fill,minmax(240px,1fr))}</style>")


def write_index(folder: str | os.PathLike) -> Path:
    """Write index.html of a folder of runs, from what lies in it.

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
    body = fill(
        "<header><p>{done} of {all} runs are finished</p><h1>{name}</h1></header>{style}<main>"
        '<section class="wide"><div class="timeline">{figures}</div></section></main>',
        done=len(done),
        all=len(runs),
        name=folder.name,
        style=_STYLE,
        figures=join(map(_figure, runs)),
    )
    target = folder / "index.html"
    write_bytes(target, page(folder.name, body))
    return target


def _step(run: Path) -> int:
    """Return the last step that is logged."""
    rows = read_rows(run / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def _steps(run: Path) -> int:
    train = (_read(run / "config.json") or {}).get("train")
    steps = train.get("steps") if isinstance(train, dict) else None
    return steps if type(steps) is int else -1


def _figure(run: Path) -> Html:
    config = _read(run / "config.json") or {}
    name = prompt_in(config, run.name)
    title = fill("<b>{name}</b>", name=name)
    if (run / "report.html").is_file():
        title = fill('<a href="{to}">{title}</a>', to=link_to(run.name, "report.html"), title=title)
    lines: list[str] = [title, f"seed {config.get('seed', '?')}"]
    if _step(run) != _steps(run):
        lines.append(f"step {_step(run)} of {_steps(run)}")
    scores = (_read(run / "evaluation.json") or {}).get("scores")
    if isinstance(scores, dict):
        lines.append(f"IoU {scores.get('iou')}, PSNR {scores.get('psnr')} dB")
    previews = sorted(run.glob("previews/*.png"), key=lambda path: (len(path.stem), path.stem))
    image = Html()
    if previews:
        source = link_to(run.name, "previews", previews[-1].name)
        image = fill('<img src="{source}" alt="{name}">', source=source, name=name)
    caption = join(lines, "<br>")
    return fill("<figure>{a}<figcaption>{b}</figcaption></figure>", a=image, b=caption)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
