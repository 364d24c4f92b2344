"""The furniture suite: scenes against the true objects of the shipped library."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dreamfusion_jax.datasets.library import LIBRARY, Truth, load_truth, read_index
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.alignment import Alignment, Views, align, render_aligned
from dreamfusion_jax.evaluation.geometry import (
    chamfer_distance,
    normalised_surface_points,
    psnr,
    silhouette_iou,
)
from dreamfusion_jax.export.files import write_bytes
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.export.views import occupied_cells
from dreamfusion_jax.prompts.meaning import mentions, to_known
from dreamfusion_jax.scene.render import Scene

_MESH_RESOLUTION = 96


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A scene to be scored, the prompt it was made from, where it lies and its step."""

    workdir: str
    prompt: str
    step: int
    scene: Scene
    params: dict


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well one result agrees with the true object.

    `iou` of the silhouettes (opacity above one half), `psnr` of the albedo over white
    (dB): means over the views. `chamfer` in object diagonals, None where the result has
    no surface. `azimuth` (degrees) and `scale` are the alignment that was chosen:
    turned and grown by them, the result fits the truth.
    """

    noun: str
    iou: float
    psnr: float
    chamfer: float | None
    azimuth: float
    scale: float
    iou_per_view: list[float]


@dataclasses.dataclass(frozen=True)
class RunScores:
    """The scores of one run."""

    workdir: str
    prompt: str
    step: int
    scores: Scores


def score_scene(scene: Scene, params: dict, noun: str, truth: Truth) -> Scores:
    """Aligns a scene with a true object and measures their agreement."""
    views = truth_views(truth)
    occupied = occupied_cells(scene, params)
    alignment = align(scene, params, occupied, views)
    rendered = render_aligned(scene, params, occupied, views, alignment)
    ious = silhouette_iou(rendered[..., 3] > 0.5, views.rgba[..., 3] > 0.5)
    on_white = [rgba[..., :3] + 1.0 - rgba[..., 3:] for rgba in (rendered, views.rgba)]
    return Scores(
        noun=noun,
        iou=_rounded(ious.mean()),
        psnr=_rounded(psnr(*on_white).mean()),
        chamfer=_chamfer(scene, params, truth, alignment),
        azimuth=_rounded(math.degrees(math.remainder(alignment.azimuth, 2 * math.pi))),
        scale=_rounded(alignment.scale),
        iou_per_view=[_rounded(x) for x in ious],
    )


def score(candidate: Candidate) -> RunScores:
    """Scores a scene against the true object that its prompt names.

    Raises:
      UserError: there is no such object, or the scene is not finite.
    """
    noun = find_noun(candidate.prompt, names())
    scores = score_scene(candidate.scene, candidate.params, noun, load_truth(noun))
    return RunScores(candidate.workdir, candidate.prompt, candidate.step, scores)


def evaluate_furniture(
    candidates: Iterable[Candidate], output: str | os.PathLike | None = None
) -> dict[str, Any]:
    """Scores scenes, prints one table and writes one JSON file.

    Args:
      candidates: the scenes.
      output: the JSON file; None writes none.

    Returns:
      What the JSON holds: {"suite", "runs": [...], "mean": {...}, "lowest_iou"}.

    Raises:
      UserError: there is no candidate, or one cannot be scored.
    """
    runs = [score(candidate) for candidate in candidates]
    if not runs:
        raise UserError("There is nothing to evaluate; give the folder of at least one run.")
    result = {"suite": "furniture", "runs": [dataclasses.asdict(r) for r in runs]}
    result |= summary([r.scores for r in runs])
    print(table(runs))
    if output is not None:
        write_bytes(output, (json.dumps(result, indent=2) + "\n").encode())
    return result


def summary(scores: Sequence[Scores]) -> dict[str, Any]:
    """Means over runs (Chamfer over those with a surface) and the lowest IoU."""
    means = {}
    for name in ("iou", "psnr", "chamfer"):
        values = [getattr(s, name) for s in scores if getattr(s, name) is not None]
        means[name] = _rounded(np.mean(values)) if values else None
    return {"mean": means, "lowest_iou": min(s.iou for s in scores)}


def table(runs: Sequence[RunScores]) -> str:
    """The scores as text, one line a run, means last."""
    lines = [f"{'object':<20}{'IoU':>7}{'PSNR dB':>9}{'Chamfer':>9}{'azimuth':>9}{'scale':>7}  run"]
    for run in runs:
        s = run.scores
        turn = f"{s.azimuth:+8.1f}°{s.scale:7.2f}  {run.workdir}"
        lines.append(f"{s.noun:<20}{s.iou:7.3f}{s.psnr:9.2f}{_optional(s.chamfer)}{turn}")
    mean = summary([r.scores for r in runs])["mean"]
    lines.append(f"{'mean':<20}{mean['iou']:7.3f}{mean['psnr']:9.2f}{_optional(mean['chamfer'])}")
    return "\n".join(lines)


def names() -> dict[str, str]:
    """Every noun and synonym of the library -> the noun."""
    objects = read_index(LIBRARY)["objects"]
    synonyms = {s: o["noun"] for o in objects for s in o["synonyms"]}
    return synonyms | {o["noun"]: o["noun"] for o in objects}


def find_noun(prompt: str, known: dict[str, str]) -> str:
    """The noun whose name is the longest that occurs in the prompt as whole words.

    Where none does, the one that is nearest in meaning, as in `generate`.

    Args:
      prompt: of a run.
      known: name -> noun.

    Raises:
      UserError: there is none.
    """
    told, _ = to_known(prompt, tuple(known))
    found = [name for name in known if mentions(told, name)]
    if not found:
        raise UserError(
            f"There is no true object for the prompt {prompt!r}; the furniture suite knows: "
            f"{', '.join(sorted(set(known.values())))}."
        )
    return known[max(found, key=len)]


def truth_views(truth: Truth) -> Views:
    """The true pictures as premultiplied RGBA in [0, 1], one camera each."""
    rgba = np.asarray(truth.rgba, np.float32) / 255
    rgba = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], axis=-1)

    def each(value) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, np.float32), (len(rgba),))

    angles = each(truth.azimuth), each(truth.elevation)
    return Views(rgba, *angles, each(truth.distance), each(truth.focal))


def _chamfer(scene: Scene, params: dict, truth: Truth, alignment: Alignment) -> float | None:
    try:
        mesh = extract_mesh(scene, params, _MESH_RESOLUTION)
    except UserError:  # nothing opaque: there is no surface to measure
        return None
    points = normalised_surface_points(mesh, alignment.azimuth)
    return _rounded(chamfer_distance(points, np.asarray(truth.points)))


def _optional(value: float | None) -> str:
    return f"{'-':>9}" if value is None else f"{value:9.4f}"


def _rounded(value: Any) -> float:
    return round(float(value), 5)
