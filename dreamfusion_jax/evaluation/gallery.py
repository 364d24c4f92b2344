"""One picture of many runs, each below its true object."""

import os
from collections.abc import Iterable

import numpy as np
import PIL.Image

from dreamfusion_jax.datasets.library import load_truth
from dreamfusion_jax.evaluation.furniture import Candidate, find_noun, names
from dreamfusion_jax.export.images import save_png
from dreamfusion_jax.export.preview import preview_grid

_VIEW = 0  # of the truth: 22.5 degrees of azimuth, 15 of elevation; the same for all runs


def write_gallery(
    candidates: Iterable[Candidate],
    path: str | os.PathLike,
    *,
    size: int = 128,
    columns: int = 8,
) -> None:
    """Writes a PNG: for each scene the true object, then colour, shape and normals of the result.

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


def _strip(candidate: Candidate, size: int) -> np.ndarray:
    truth = load_truth(find_noun(candidate.prompt, names()))
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
