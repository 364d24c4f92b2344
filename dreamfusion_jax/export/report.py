"""One self-contained page about a run: nothing on it is loaded from elsewhere."""

import base64
import html
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.markup import fill, join
from dreamfusion_jax.export.mesh_files import read_glb
from dreamfusion_jax.export.mesh_widget import viewer_html
from dreamfusion_jax.export.plots import line_chart
from dreamfusion_jax.io import read_json, read_rows, write_bytes

_PACKAGES = ("dreamfusion_jax", "jax", "jaxlib", "flax", "optax", "numpy")
_TIMELINE_IMAGES = 8


def write_report(workdir: str | os.PathLike) -> Path:
    """Write report.html of a run from what lies in its folder; what is missing is left out.

    Read are config.json, turntable.mp4, mesh.glb, previews/*.png, metrics.jsonl and
    evaluation.json.

    Args:
      workdir: of the run.

    Returns:
      The path of the page.

    Raises:
      UserError: the folder holds no run, or the page cannot be written.
    """
    folder = Path(workdir)
    config = _read_json(folder / "config.json")
    if config is None:
        raise UserError(f"{folder} is not the folder of a run: it has no config.json.")
    previews = sorted(folder.glob("previews/*.png"), key=_step_of)
    prompt = prompt_in(config, folder.name)
    sections = [
        _video(folder / "turntable.mp4"),
        _section("Turn it yourself", mesh_html(folder / "mesh.glb"), wide=False),
        _section("Result from four sides", _final_preview(previews), wide=False),
        _section("Agreement with the true object", _scores(folder)),
        _section("How it came about", _timeline(previews)),
        _section("Curves", _curves(folder / "metrics.jsonl")),
        _section("Settings", _settings(config)),
    ]
    head = fill("<header><p>text to 3D</p><h1>{prompt}</h1></header>", prompt=prompt)
    body = f"{head}<main>{''.join(sections)}</main>"
    target = folder / "report.html"
    write_bytes(target, page(prompt, body))
    return target


def prompt_in(config: dict[str, Any], name: str) -> str:
    """Return the prompt of a run's config.json, or its folder's name where it has none."""
    prompt = config.get("prompt")
    text = prompt.get("text") if isinstance(prompt, dict) else None
    return text if isinstance(text, str) else name


def page(title: str, body: str) -> bytes:
    """Return an HTML document in UTF-8, in the style of reports, of a title (text) and HTML.

    Halves of characters, which JSON can hold, become question marks.
    """
    parts = {"TITLE": html.escape(title), "BODY": body}  # in one pass: a prompt may hold "$BODY$"
    filled = re.sub(r"\$(TITLE|BODY)\$", lambda found: parts[found[1]], _PAGE)
    return filled.encode(errors="replace")


def _section(title: str, content: str, *, wide: bool = True) -> str:
    kind = "wide" if wide else "half"
    return f'<section class="{kind}"><h2>{title}</h2>{content}</section>' if content else ""


def _video(path: Path) -> str:
    if not path.is_file():
        return ""
    names = '<p class="names"><span>color</span><span>normals</span><span>depth</span></p>'
    return _section("Once around", f'<div class="around">{video_html(path)}{names}</div>')


def video_html(path: Path) -> str:
    """Return an MP4 file as an HTML element that plays it for ever."""
    source = data_uri(path.read_bytes(), "video/mp4")
    return (
        f'<video autoplay loop muted playsinline controls style="width: 100%" src="{source}">'
        "</video>"
    )


def mesh_html(path: Path) -> str:
    """Return a GLB file as a widget to be turned; "" where there is none of this version's."""
    try:
        return viewer_html(read_glb(path)) if path.is_file() else ""
    except UserError:
        return ""


def _final_preview(previews: list[Path]) -> str:
    if not previews:
        return ""
    return (
        _image(previews[-1], "color, shape without texture and normals from four sides")
        + '<p class="note">Rows: color, shape without texture, normals.</p>'
    )


def _timeline(previews: list[Path]) -> str:
    if len(previews) < 2:
        return ""
    index = np.unique(np.linspace(0, len(previews) - 1, _TIMELINE_IMAGES).round().astype(int))
    figures = [
        f"<figure>{_image(previews[i], previews[i].stem)}"
        f"<figcaption>step {_step_of(previews[i])[0]}</figcaption></figure>"
        for i in index
    ]
    return f'<div class="timeline">{"".join(figures)}</div>'


def _curves(path: Path) -> str:
    rows = read_rows(path)
    names = sorted({name for row in rows for name in row} - {"step"})
    charts = []
    for name in names:
        points = [(r["step"], r[name]) for r in rows if isinstance(r.get(name), (int, float))]
        charts.append(
            line_chart(name.replace("_", " "), [p[0] for p in points], [p[1] for p in points])
        )
    joined = "".join(charts)
    return f'<div class="charts">{joined}</div>' if joined else ""


def _scores(folder: Path) -> str:
    """Return what `evaluate` said of the newest step; "" where its file is damaged."""
    try:
        return _score_table(folder)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""


def _score_table(folder: Path) -> str:
    evaluation = _read_json(folder / "evaluation.json") or {}
    scores, rows = evaluation.get("scores"), read_rows(folder / "metrics.jsonl")
    if not scores or (rows and evaluation.get("step") != rows[-1]["step"]):
        return ""
    chamfer = scores.get("chamfer")
    table = {
        "Silhouette IoU": f"{scores['iou']:.3f}",
        "PSNR (albedo over white)": f"{scores['psnr']:.1f} dB",
        "Chamfer distance (object diagonals)": "no surface"
        if chamfer is None
        else f"{chamfer:.4f}",
        "True object": str(scores["noun"]),
        "Turned by, grown by": f"{scores['azimuth']:.1f}\u00b0, {scores['scale']:.2f}",
    }
    retrieval_scores = evaluation.get("retrieval_scores")
    if retrieval_scores:
        table["Views in which the evaluator finds the noun"] = f"{retrieval_scores['color']:.0%}"
        table["The same without texture"] = f"{retrieval_scores['geo']:.0%}"
        table["A side or the back looks like a front"] = (
            "yes" if retrieval_scores["janus"] else "no"
        )
    return _table(table)


def _settings(config: dict[str, Any]) -> str:
    versions = {"python": platform.python_version(), "system": platform.system()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    text = html.escape(json.dumps(config, indent=2))
    return (
        f"{_table(versions)}<details><summary>The whole config</summary><pre>{text}</pre></details>"
    )


def _table(rows: dict[str, str]) -> str:
    row = "<tr><th>{name}</th><td>{value}</td></tr>"
    return fill("<table>{rows}</table>", rows=join(fill(row, name=n, value=rows[n]) for n in rows))


def _image(path: Path, alternative: str) -> str:
    source = data_uri(path.read_bytes(), "image/png")
    return f'<img src="{source}" alt="{html.escape(alternative)}">'


def data_uri(data: bytes, kind: str) -> str:
    """Return a file as an address that needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _step_of(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else 0, path.stem


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$TITLE$</title>
<style>
:root { color-scheme: light dark; --paper: #f6f6f3; --card: #fff; --ink: #22252a; --soft: #6c7280;
  --line: #e2e3e0; --accent: #2f6fb5; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181c; --card: #202329; --ink: #e8e9ec;
  --soft: #9aa1ad; --line: #343841; --accent: #7db4ee; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
header, main { max-width: 1180px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 36px; } header p { margin: 0; color: var(--soft); letter-spacing: .08em; }
h1 { margin: 0 0 22px; font-size: 34px; font-weight: 650; line-height: 1.2; }
h2 { margin: 0 0 12px; font-size: 16px; font-weight: 600; }
main { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px;
  padding-bottom: 48px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 18px; min-width: 0; }
.wide { grid-column: 1 / -1; } @media (max-width: 800px) { .half { grid-column: 1 / -1; } }
img, video { display: block; width: 100%; border-radius: 6px; background: #fff; }
.around { max-width: 900px; margin: 0 auto; }
.names { display: flex; margin: 8px 0 0; color: var(--soft); }
.names span { flex: 1; text-align: center; }
.note { margin: 8px 0 0; color: var(--soft); text-align: center; }
.timeline { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
figure { margin: 0; } figcaption { color: var(--soft); text-align: center; margin-top: 4px; }
.charts { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); }
.chart { width: 100%; } .chart path { fill: none; stroke: var(--accent); }
.chart .raw { opacity: .3; } .chart .mean { stroke-width: 2; } .chart .grid { stroke: var(--line); }
.chart text { fill: var(--soft); font-size: 11px; }
.chart .title { fill: var(--ink); font-size: 13px; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 400; color: var(--soft); }
th, td { padding: 3px 22px 3px 0; }
summary { cursor: pointer; margin-top: 12px; color: var(--accent); }
pre { overflow: auto; max-height: 420px; font-size: 12.5px; background: var(--paper);
  padding: 12px; border-radius: 8px; }
</style></head><body>$BODY$</body></html>
"""
