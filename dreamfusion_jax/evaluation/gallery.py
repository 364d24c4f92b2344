"""Pages of results in pictures, with what is said of them."""

import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from dreamfusion_jax.evaluation.retrieval import ResultImages
from dreamfusion_jax.export.images import to_uint8
from dreamfusion_jax.export.markup import Html, fill, join
from dreamfusion_jax.export.report import data_uri, page
from dreamfusion_jax.io import write_bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Thumbnails:
    """The pictures of one result that a page shows, as PNG."""

    source: str
    caption: str
    png: bytes


def thumbnails_of(shown: ResultImages, *, size: int = 96, most: int = 4) -> Thumbnails:
    """Return up to `most` pictures of each kind, a row a kind."""
    kinds = {kind: images[:: -(-len(images) // most)] for kind, images in shown.images.items()}
    columns = max(map(len, kinds.values()))
    grid = np.full((len(kinds) * size, columns * size, 3), 255, np.uint8)
    for i, images in enumerate(kinds.values()):
        for j, image in enumerate(images):
            small = PIL.ImageOps.contain(PIL.Image.fromarray(to_uint8(image)), (size, size))
            part = grid[i * size : i * size + small.height, j * size : j * size + small.width]
            part[:] = np.asarray(small)
    png = io.BytesIO()
    PIL.Image.fromarray(grid).save(png, "PNG")
    return Thumbnails(shown.source, shown.caption, png.getvalue())


def write_retrieval_page(
    thumbnails: Sequence[Thumbnails], result: dict[str, Any], path: str | os.PathLike
) -> None:
    """Write one self-contained HTML page: results, how often they are found, and as what.

    Args:
      strips: pictures of each result.
      result: what `evaluate_retrieval` found of them, in the same order.
      path: of the page.
    """
    figures = []
    for thumbnail, run in zip(thumbnails, result["runs"], strict=True):
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in run["shares"].items())
        lines = [fill("<b>{caption}</b>", caption=thumbnail.caption), shares]
        if run["taken_for"] != run["caption"]:
            lines.append(f"taken for: {run['taken_for']}")
        lines.append(fill('<span class="note">{source}</span>', source=thumbnail.source))
        figures.append(figure(thumbnail.png, lines))
    ends = result["interval"]
    means = ", ".join(
        f"{kind} {share:.1%} ({ends[kind][0]:.1%} to {ends[kind][1]:.1%})"
        for kind, share in result["mean"].items()
    )
    note = (
        f"A row a kind: {', '.join(result['mean'])}. Own caption first among {result['captions']}."
    )
    write_bytes(path, results_page("R-Precision", figures, means, note, width=260))


def results_page(
    title: str, figures: Sequence[Html], summary: str, note: str, *, width: int = 140
) -> bytes:
    """Return a document of figures, each at least so many pixels wide."""
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


def figure(png: bytes, lines: Sequence[str]) -> Html:
    """Return a picture with lines below it."""
    return fill(
        '<figure><img src="{source}" alt=""><figcaption>{lines}</figcaption></figure>',
        source=data_uri(png, "image/png"),
        lines=join(lines, "<br>"),
    )
