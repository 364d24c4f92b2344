"""One picture or page of many runs, each below its true object."""

import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import PIL.Image

from dreamfusion_jax.evaluation.gallery import figure, results_page
from dreamfusion_jax.export.images import save_png
from dreamfusion_jax.export.markup import fill
from dreamfusion_jax.export.preview import preview_grid
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
    """Write a PNG: for each scene the true object, then color, shape and normals of the result.

    All are seen from the first unseen view of the truth; nothing is aligned or chosen.

    Args:
      candidates: the scenes.
      path: of the PNG.
      size: of each picture in pixels.
      columns: scenes side by side before a new block of rows begins.
    """
    thumbnails = [_strip(candidate, size) for candidate in candidates]
    thumbnails += [np.full_like(thumbnails[0], 255)] * (
        -len(thumbnails) % min(columns, len(thumbnails))
    )
    width = min(columns, len(thumbnails))
    blocks = [
        np.concatenate(thumbnails[i : i + width], axis=1) for i in range(0, len(thumbnails), width)
    ]
    save_png(PIL.Image.fromarray(np.concatenate(blocks)), path)


def write_gallery_page(
    candidates: Sequence[Candidate],
    scores: dict[str, Any],
    path: str | os.PathLike,
    *,
    size: int = 128,
) -> None:
    """Write one self-contained HTML page: the pictures of `write_gallery`, with their scores.

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
        figures.append(figure(png.getvalue(), lines))
    means = ", ".join(f"{name} {v:.3f}" for name, v in scores["mean"].items() if v is not None)
    note = "Top to bottom: the true object, color, shape, normals. One run each, nothing picked."
    write_bytes(
        path, results_page("Results below their true objects", figures, f"Means: {means}", note)
    )


def _strip(candidate: Candidate, size: int) -> np.ndarray:
    ground_truth = load_ground_truth(find_noun(candidate.prompt, names()))
    true_view = PIL.Image.new("RGBA", ground_truth.rgba.shape[1:3], "white")
    true_view.alpha_composite(PIL.Image.fromarray(ground_truth.rgba[_VIEW]))
    grid = preview_grid(
        candidate.scene,
        candidate.params,
        step=candidate.step,
        size=size,
        azimuths=(float(ground_truth.azimuth[_VIEW]),),
        elevation=float(ground_truth.elevation[_VIEW]),
        distance=ground_truth.distance,
        focal=ground_truth.focal,
    )
    enlarged = true_view.convert("RGB").resize((size, size), PIL.Image.Resampling.BICUBIC)
    return np.concatenate([np.asarray(enlarged), np.asarray(grid)])
