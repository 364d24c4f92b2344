"""One picture or page of many runs, each below its true object."""

import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from dreamfusion_jax.evaluation.retrieval import Shown
from dreamfusion_jax.export.images import save_png, to_uint8
from dreamfusion_jax.export.markup import Html, fill, join
from dreamfusion_jax.export.preview import preview_grid
from dreamfusion_jax.export.report import data_uri, page
from dreamfusion_jax.furniture.object_views import load_ground_truth
from dreamfusion_jax.furniture.suite import Candidate, find_noun, names
from dreamfusion_jax.io import write_bytes

_VIEW = 0  # of the truth: 22.5 degrees of azimuth, 15 of elevation; the same for all runs


def write_gallery(
    candidates: Iterable[Candidate],
    path: str | os.PathLike,
    *,
    size: int = 128,
    columns: int = 8,
) -> None:
    """Writes a PNG: for each scene the true object, then color, shape and normals of the result.

    All are seen from the first unseen view of the truth; nothing is aligned or chosen.

    Args:
      candidates: the scenes.
      path: of the PNG.
      size: of each picture in pixels.
      columns: scenes side by side before a new block of rows begins.
    """
    strips = [_strip(candidate, size) for candidate in candidates]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % min(columns, len(strips)))
    width = min(columns, len(strips))
    blocks = [np.concatenate(strips[i : i + width], axis=1) for i in range(0, len(strips), width)]
    save_png(PIL.Image.fromarray(np.concatenate(blocks)), path)


def write_gallery_page(
    candidates: Sequence[Candidate],
    scores: dict[str, Any],
    path: str | os.PathLike,
    *,
    size: int = 128,
) -> None:
    """Writes one self-contained HTML page: the pictures of `write_gallery`, with their scores.

    Args:
      candidates: the scenes.
      scores: what `evaluate_furniture` found of them, in the same order.
      path: of the page.
      size: of each picture in pixels.
    """
    figures = []
    for candidate, run in zip(candidates, scores["runs"], strict=True):
        png = io.BytesIO()
        PIL.Image.fromarray(_strip(candidate, size)).save(png, "PNG")
        said = run["retrieval_scores"] or {}
        lines = [f"IoU {run['scores']['iou']:.2f}, PSNR {run['scores']['psnr']:.1f} dB"]
        lines += [f"found in {said['color']:.0%} / {said['geo']:.0%} of views"] if said else []
        lines += ["Janus"] if said.get("janus") else []
        lines = [fill("<b>{prompt}</b>", prompt=candidate.prompt), *lines]
        figures.append(_figure(png.getvalue(), lines))
    means = ", ".join(f"{name} {v:.3f}" for name, v in scores["mean"].items() if v is not None)
    note = "Top to bottom: the true object, color, shape, normals. One run each, nothing picked."
    write_bytes(path, _page("Results below their true objects", figures, f"Means: {means}", note))


@dataclasses.dataclass(frozen=True, eq=False)
class Strip:
    """The pictures of one result that a page shows, as PNG."""

    source: str
    caption: str
    png: bytes


def strip_of(shown: Shown, *, size: int = 96, most: int = 4) -> Strip:
    """Up to `most` pictures of each kind, a row a kind."""
    kinds = {
        kind: pictures[:: -(-len(pictures) // most)] for kind, pictures in shown.pictures.items()
    }
    columns = max(map(len, kinds.values()))
    grid = np.full((len(kinds) * size, columns * size, 3), 255, np.uint8)
    for i, pictures in enumerate(kinds.values()):
        for j, picture in enumerate(pictures):
            image = PIL.ImageOps.contain(PIL.Image.fromarray(to_uint8(picture)), (size, size))
            part = grid[i * size : i * size + image.height, j * size : j * size + image.width]
            part[:] = np.asarray(image)
    png = io.BytesIO()
    PIL.Image.fromarray(grid).save(png, "PNG")
    return Strip(shown.source, shown.caption, png.getvalue())


def write_retrieval_page(
    strips: Sequence[Strip], result: dict[str, Any], path: str | os.PathLike
) -> None:
    """Writes one self-contained HTML page: results, how often they are found, and as what.

    Args:
      strips: pictures of each result.
      result: what `evaluate_retrieval` found of them, in the same order.
      path: of the page.
    """
    figures = []
    for strip, run in zip(strips, result["runs"], strict=True):
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in run["shares"].items())
        lines = [fill("<b>{caption}</b>", caption=strip.caption), shares]
        if run["taken_for"] != run["caption"]:
            lines.append(f"taken for: {run['taken_for']}")
        lines.append(fill('<span class="note">{source}</span>', source=strip.source))
        figures.append(_figure(strip.png, lines))
    ends = result["interval"]
    means = ", ".join(
        f"{kind} {share:.1%} ({ends[kind][0]:.1%} to {ends[kind][1]:.1%})"
        for kind, share in result["mean"].items()
    )
    note = (
        f"A row a kind: {', '.join(result['mean'])}. Own caption first among {result['captions']}."
    )
    write_bytes(path, _page("R-Precision", figures, means, note, width=260))


def _page(
    title: str, figures: Sequence[Html], summary: str, note: str, *, width: int = 140
) -> bytes:
    """A document of figures, each at least so many pixels wide."""
    columns = f".timeline{{grid-template-columns:repeat(auto-fill,minmax({width}px,1fr))}}"
    body = fill(
        "<header><p>{count} results</p><h1>{title}</h1></header><style>{columns}</style>"
        '<main><section class="wide"><p>{summary}</p><div class="timeline">{figures}</div>'
        '<p class="note">{note}</p></section></main>',
        count=len(figures),
        title=title,
        columns=Html(columns),
        summary=summary,
        figures=join(figures),
        note=note,
    )
    return page(title, body)


def _figure(png: bytes, lines: Sequence[str]) -> Html:
    return fill(
        '<figure><img src="{source}" alt=""><figcaption>{lines}</figcaption></figure>',
        source=data_uri(png, "image/png"),
        lines=join(lines, "<br>"),
    )


def _strip(candidate: Candidate, size: int) -> np.ndarray:
    truth = load_ground_truth(find_noun(candidate.prompt, names()))
    true_view = PIL.Image.new("RGBA", truth.rgba.shape[1:3], "white")
    true_view.alpha_composite(PIL.Image.fromarray(truth.rgba[_VIEW]))
    grid = preview_grid(
        candidate.scene,
        candidate.params,
        size=size,
        azimuths=(float(truth.azimuth[_VIEW]),),
        elevation=float(truth.elevation[_VIEW]),
        distance=truth.distance,
        focal=truth.focal,
    )
    enlarged = true_view.convert("RGB").resize((size, size), PIL.Image.Resampling.BICUBIC)
    return np.concatenate([np.asarray(enlarged), np.asarray(grid)])
