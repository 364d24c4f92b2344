"""Scores of finished runs and of priors."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamfusion_jax.datasets.library import SIZE, nouns
from dreamfusion_jax.diffusion.load import known_names, load_prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation import prior_quality
from dreamfusion_jax.evaluation.furniture import Candidate, evaluate_furniture
from dreamfusion_jax.evaluation.gallery import write_gallery, write_gallery_page
from dreamfusion_jax.evaluation.judge import Judge, Look
from dreamfusion_jax.evaluation.mesh_agreement import (
    MeshAgreement,
    compare_mesh,
    is_closed,
    report_meshes,
)
from dreamfusion_jax.export.files import write_bytes
from dreamfusion_jax.export.mesh_files import read_glb
from dreamfusion_jax.export.report import write_report
from dreamfusion_jax.train.checkpoint import restore_run
from dreamfusion_jax.train.metrics import minutes_of, read_metrics


def evaluate(
    workdirs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    gallery: str | Path | None = None,
) -> dict[str, Any]:
    """Scores runs of nouns that the library knows against the true objects.

    Each run's folder gets its own scores as evaluation.json, and its report shows them.

    Args:
      workdirs: folders of the runs.
      out: JSON file of the scores; None writes none.
      gallery: PNG, or HTML page with the scores, of all results below their true objects; None
        draws none.

    Returns:
      The content of the JSON file, see `evaluation.furniture`.

    Raises:
      UserError: a folder is no run, or there is no true object for its prompt.
    """
    candidates = [_candidate(Path(workdir)) for workdir in workdirs]
    scores = evaluate_furniture(candidates, out, Judge.load())
    for run in scores["runs"]:
        path = Path(run["workdir"]) / "evaluation.json"
        if out is None or path.resolve() != Path(out).resolve():
            _keep(path, run)
    if gallery is not None and Path(gallery).suffix == ".html":
        write_gallery_page(candidates, scores, gallery)
    elif gallery is not None:
        write_gallery(candidates, gallery)
    return scores


def _keep(path: Path, scores: dict[str, Any]) -> None:
    try:
        write_bytes(path, (json.dumps(scores, indent=2) + "\n").encode())
        if (path.parent / "report.html").is_file():
            write_report(path.parent)
    except UserError as error:  # a folder of somebody else's: the scores are in the table
        print(error, file=sys.stderr)


def evaluate_meshes(
    workdirs: Sequence[str | Path], out: str | Path | None = None
) -> dict[str, Any]:
    """Compares the mesh.glb of runs with their fields, seen by the same cameras.

    Args:
      workdirs: folders of finished runs.
      out: JSON file of the figures; None writes none.

    Raises:
      UserError: a folder is no run or has no mesh, or PyVista is missing.
    """
    if not workdirs:
        raise UserError("There is nothing to evaluate; give the folder of at least one run.")
    return report_meshes([_mesh_agreement(Path(workdir)) for workdir in workdirs], out)


def _mesh_agreement(workdir: Path) -> MeshAgreement:
    run, mesh = restore_run(workdir), read_glb(workdir / "mesh.glb")
    export = run.config.export
    psnr, iou = compare_mesh(run.scene, run.params, mesh, export.distance, export.focal)
    figures = round(psnr, 3), round(iou, 4), len(mesh.faces), is_closed(mesh)
    return MeshAgreement(str(workdir), *figures)


def evaluate_prior(
    prior: str = "embedded", out: str | Path | None = None, **settings: Any
) -> dict[str, Any]:
    """Scores a prior on the nouns of the library that it knows.

    Args:
      prior: name or folder, see `load_prior`.
      out: JSON file of the figures; None writes none.
      **settings: of `evaluation.prior_quality.evaluate_prior`.
    """
    model = load_prior(prior)
    names = known_names(prior)
    known = [noun for noun in nouns() if not names or noun in names]
    if not known or max(model.image_shape) > SIZE or model.latent_shape != model.image_shape:
        raise UserError(
            f"The prior {prior!r} cannot be scored: the suite is for priors of pictures of at most "
            f"{SIZE} pixels that know nouns of the shipped library."
        )
    return prior_quality.evaluate_prior(model, known, Judge.load(), out=out, **settings)


def _candidate(workdir: Path) -> Candidate:
    run = restore_run(workdir)
    export, light = run.config.export, run.config.light
    return Candidate(
        workdir=str(workdir),
        prompt=run.config.prompt,
        step=run.step,
        scene=run.scene,
        params=run.params,
        look=Look(export.distance, export.focal, light.ambient, light.diffuse),
        minutes=minutes_of(read_metrics(workdir), run.config.train.views),
    )
