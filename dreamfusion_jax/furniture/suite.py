"""The furniture suite: scenes against the true objects of the shipped library."""

import dataclasses
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dreamfusion_jax.errors import NoSurface, UserError
from dreamfusion_jax.evaluation.alignment import Alignment, Views, align, render_aligned
from dreamfusion_jax.evaluation.geometry import (
    chamfer_distance,
    normalized_surface_points,
    psnr,
    silhouette_iou,
)
from dreamfusion_jax.evaluation.renders import ViewConfig
from dreamfusion_jax.evaluation.statistics import bootstrap_interval
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.export.view_renderer import prepare_views
from dreamfusion_jax.furniture.nearest_image import nearest_image
from dreamfusion_jax.furniture.object_views import (
    OBJECT_VIEWS,
    GroundTruth,
    load_ground_truth,
    load_object_views,
    read_index,
)
from dreamfusion_jax.furniture.retrieval_evaluator import (
    RetrievalEvaluator,
    RetrievalScores,
    retrieve_ground_truth,
    retrieve_scene,
)
from dreamfusion_jax.io import write_json
from dreamfusion_jax.prompts.known_nouns import read_prompt
from dreamfusion_jax.scene.base import FINISHED, Scene

_MESH_RESOLUTION = 96
_SIZE = 64  # pixels of the views that are compared


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A scene to be scored, the prompt it was made from, where it lies and its step.

    Without a `look` the evaluator is not asked. `minutes` is the time of its optimization.
    """

    workdir: str
    prompt: str
    step: int
    scene: Scene
    params: dict
    look: ViewConfig | None = None
    minutes: float | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well one result agrees with the true object.

    `iou` of the silhouettes (opacity above one half), `psnr` (dB) of the result over white, lit as
    the true pictures are, and `psnr_albedo` of its albedo beside these pictures: means over
    the views. `chamfer` in object diagonals, None where the result has
    no surface. `azimuth` (degrees) and `scale` are the alignment that was chosen:
    turned and grown by them, the result fits the ground truth.
    """

    noun: str
    iou: float
    psnr: float
    psnr_albedo: float
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
    retrieval_scores: RetrievalScores | None = None
    minutes: float | None = None

    def figures(self) -> dict[str, float | None]:
        """Return what means are taken of."""
        said = {} if self.retrieval_scores is None else dataclasses.asdict(self.retrieval_scores)
        agreement = {name: getattr(self.scores, name) for name in ("iou", "psnr", "chamfer")}
        return agreement | said | {"minutes": self.minutes}


def score_scene(
    scene: Scene, params: dict, noun: str, ground_truth: GroundTruth, *, step: int = FINISHED
) -> Scores:
    """Align a scene with a true object and measure their agreement."""
    views = truth_views(ground_truth).shrunk(_SIZE)
    prepared = prepare_views(scene, params, step)
    alignment = align(scene, params, prepared, views)
    rendered = render_aligned(scene, params, prepared, views, alignment)
    ious = silhouette_iou(rendered[..., 3] > 0.5, views.rgba[..., 3] > 0.5)
    lit = render_aligned(scene, params, prepared, views, alignment, ground_truth.light)
    albedo, shaded, true = (v[..., :3] + 1 - v[..., 3:] for v in (rendered, lit, views.rgba))
    return Scores(
        noun=noun,
        iou=_rounded(ious.mean()),
        psnr=_rounded(psnr(shaded, true).mean()),
        psnr_albedo=_rounded(psnr(albedo, true).mean()),
        chamfer=_chamfer(scene, params, step, ground_truth, alignment),
        azimuth=_rounded(math.degrees(math.remainder(alignment.azimuth, 2 * math.pi))),
        scale=_rounded(alignment.scale),
        iou_per_view=[_rounded(x) for x in ious],
    )


def score(candidate: Candidate, evaluator: RetrievalEvaluator | None = None) -> RunScores:
    """Score a scene against the true object that its prompt names, and ask the evaluator.

    Raises:
      UserError: there is no such object, or the scene is not finite.
    """
    noun = find_noun(candidate.prompt, names())
    ground_truth = load_ground_truth(noun)
    scores = score_scene(candidate.scene, candidate.params, noun, ground_truth, step=candidate.step)
    retrieval_scores = None
    if evaluator is not None and candidate.look is not None:
        retrieval_scores = retrieve_scene(
            evaluator,
            candidate.scene,
            candidate.params,
            noun,
            candidate.look,
            step=candidate.step,
        )
        color, janus = retrieve_ground_truth(evaluator, ground_truth)
        retrieval_scores = dataclasses.replace(retrieval_scores, true_color=color, true_janus=janus)
    where = candidate.workdir, candidate.prompt, candidate.step
    return RunScores(*where, scores, retrieval_scores, candidate.minutes)


def evaluate_furniture(
    candidates: Iterable[Candidate],
    output: str | os.PathLike | None = None,
    evaluator: RetrievalEvaluator | None = None,
) -> dict[str, Any]:
    """Score scenes, print one table and write one JSON file.

    Below the means stands what the prior's nearest pictures of the same objects score.

    Args:
      candidates: the scenes.
      output: the JSON file; None writes none.
      evaluator: for R-Precision and Janus faces; None leaves them out.

    Returns:
      What the JSON holds: {"suite", "runs": [...], "mean": {...}, "interval": {...},
      "lowest_iou", "without_surface", "nearest_picture": {"iou", "psnr", "degrees"}}.

    Raises:
      UserError: there is no candidate, or one cannot be scored.
    """
    runs = [score(candidate, evaluator) for candidate in candidates]
    if not runs:
        raise UserError("There is nothing to evaluate; give the folder of at least one run.")
    result: dict[str, Any] = {"suite": "furniture", "runs": [dataclasses.asdict(r) for r in runs]}
    result |= summary(runs)
    result["nearest_picture"] = baseline({run.scores.noun for run in runs})
    print(table(runs, result["nearest_picture"]))
    if output is not None:
        write_json(output, result)
    return result


def summary(runs: Sequence[RunScores]) -> dict[str, Any]:
    """Return means over nouns (of each figure over those that have it), their 95 % intervals.

    RunStore of the same noun, with other seeds, are no independent draws: they are averaged first.
    """
    figures: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for name, value in run.figures().items():
            by_noun = figures.setdefault(name, {})
            if value is not None:
                by_noun.setdefault(run.scores.noun, []).append(float(value))
    means, intervals = {}, {}
    for name, by_noun in figures.items():
        values = [float(np.mean(found)) for found in by_noun.values()]
        means[name] = _rounded(np.mean(values)) if values else None
        intervals[name] = bootstrap_interval(values) if values else None
    return {
        "mean": means,
        "interval": intervals,
        "lowest_iou": min(run.scores.iou for run in runs),
        "without_surface": sum(run.scores.chamfer is None for run in runs),
    }


def baseline(nouns: Iterable[str]) -> dict[str, float]:
    """Return means over nouns of what the nearest shipped picture of each true view scores."""
    found = [
        dataclasses.asdict(
            nearest_image(load_object_views(nouns=[noun]), load_ground_truth(noun), _SIZE)
        )
        for noun in sorted(nouns)
    ]
    return {name: _rounded(np.mean([row[name] for row in found])) for name in found[0]}


_COLUMNS = {
    "iou": ("IoU", "{:.3f}"),
    "psnr": ("PSNR dB", "{:.2f}"),
    "chamfer": ("Chamfer", "{:.4f}"),
    "color": ("R color", "{:.0%}"),
    "geo": ("R geo", "{:.0%}"),
    "janus": ("Janus", "{:.0%}"),
    "true_color": ("R color of truth", "{:.0%}"),
    "true_janus": ("Janus of truth", "{:.0%}"),
    "minutes": ("minutes", "{:.1f}"),
}


def table(runs: Sequence[RunScores], baseline: dict[str, float]) -> str:
    """Return the scores as text, one line a run, then means, 95 % intervals and the baseline."""
    about = summary(runs)
    shown = [name for name in _COLUMNS if about["mean"].get(name) is not None]
    lines = [["object", *(_COLUMNS[name][0] for name in shown), "run"]]
    for run in runs:
        row = run.figures()
        lines.append([run.scores.noun, *(_shown(name, row.get(name)) for name in shown)])
        lines[-1].append(run.workdir)
    lines.append(["mean", *(_shown(name, about["mean"][name]) for name in shown), ""])
    for i, label in enumerate(("from", "to")):
        ends = [_shown(name, about["interval"][name][i]) for name in shown]
        lines.append([f"  95 % {label}", *ends, ""])
    bar = (_shown(name, baseline.get(name)) for name in shown)
    lines.append(["nearest picture", *bar, "(the shipped one, for each true view; no scene)"])
    widths = [max(9, len(cell) + 2) for cell in lines[0]]
    text = "\n".join(_line(line, widths) for line in lines)
    missing = about["without_surface"]
    return f"{text}\nwithout a surface: {missing} of {len(runs)} runs" if missing else text


def _shown(name: str, value: float | None) -> str:
    return "-" if value is None else _COLUMNS[name][1].format(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = cells
    aligned = (f"{cell:>{width}}" for cell, width in zip(middle, widths[1:-1], strict=True))
    return f"{first:<20}{''.join(aligned)}  {last}".rstrip()


def names() -> dict[str, str]:
    """Return every noun and synonym of the library -> the noun."""
    objects = read_index(OBJECT_VIEWS)["objects"]
    synonyms = {s: o["noun"] for o in objects for s in o["synonyms"]}
    return synonyms | {o["noun"]: o["noun"] for o in objects}


def find_noun(prompt: str, known: dict[str, str]) -> str:
    """Return the noun that a prompt is read as, see `prompts.reading`.

    Args:
      prompt: of a run.
      known: name -> noun.

    Raises:
      UserError: there is none.
    """
    try:
        return known[read_prompt(prompt, tuple(known)).name]
    except UserError as error:
        raise UserError(
            f"There is no true object for the prompt {prompt!r}; the furniture suite knows: "
            f"{', '.join(sorted(set(known.values())))}."
        ) from error


def truth_views(ground_truth: GroundTruth) -> Views:
    """Return the true pictures as premultiplied RGBA in [0, 1], one camera each."""
    rgba = np.asarray(ground_truth.rgba, np.float32) / 255
    rgba = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], axis=-1)

    def each(value) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, np.float32), (len(rgba),))

    angles = each(ground_truth.azimuth), each(ground_truth.elevation)
    return Views(rgba, *angles, each(ground_truth.distance), each(ground_truth.focal))


def _chamfer(
    scene: Scene, params: dict, step: int, ground_truth: GroundTruth, alignment: Alignment
) -> float | None:
    try:
        mesh = extract_mesh(scene, params, _MESH_RESOLUTION, step=step)
    except NoSurface:
        return None
    points = normalized_surface_points(mesh, alignment.azimuth)
    return _rounded(chamfer_distance(points, np.asarray(ground_truth.points)))


def _rounded(value: Any) -> float:
    return round(float(value), 5)
