"""Scores of runs, of priors and of the retrieval evaluator against the shipped objects."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamfusion_jax.diffusion.load import load_prior
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.renders import ViewConfig
from dreamfusion_jax.export.images import check_png
from dreamfusion_jax.export.index import write_index
from dreamfusion_jax.export.report import write_report
from dreamfusion_jax.furniture import prior_suite, retrieval_evaluator
from dreamfusion_jax.furniture.gallery import write_gallery, write_gallery_page
from dreamfusion_jax.furniture.object_views import SIZE, nouns
from dreamfusion_jax.furniture.retrieval_evaluator import RetrievalEvaluator
from dreamfusion_jax.furniture.suite import Candidate, evaluate_furniture, find_noun, names
from dreamfusion_jax.io import write_json
from dreamfusion_jax.startup import prepare_jax
from dreamfusion_jax.train.checkpoint import read_config, restore_run
from dreamfusion_jax.train.metrics import minutes_of, read_metrics
from dreamfusion_jax.train.workdir import PROMPTS_FILE, runs_in


def evaluate_runs(
    workdirs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    gallery: str | Path | None = None,
) -> dict[str, Any]:
    """Score runs of nouns that the library knows against the true objects.

    Each run's folder gets its own scores as evaluation.json, and its report shows them.

    Args:
      workdirs: folders of runs, or of folders of them.
      out: JSON file of the scores; None writes none.
      gallery: PNG, or HTML page with the scores, of all results below their true objects; None
        draws none.

    Returns:
      The content of the JSON file, see `furniture.suite.evaluate_furniture`.

    Raises:
      UserError: a folder is no run, or there is no true object for its prompt.
    """
    if gallery is not None and Path(gallery).suffix.lower() != ".html":
        check_png(gallery)
    runs = runs_in(workdirs)
    for workdir in runs:  # before anything is rendered
        find_noun(read_config(workdir).prompt.text, names())
    prepare_jax()
    candidates = [_candidate(workdir) for workdir in runs]
    scores = evaluate_furniture(candidates, out, RetrievalEvaluator.load())
    for run in scores["runs"]:
        path = Path(run["workdir"]) / "evaluation.json"
        if out is None or path.resolve() != Path(out).resolve():
            _keep(path, run)
    for folder in dict.fromkeys(Path(run["workdir"]).parent for run in scores["runs"]):
        if (folder / PROMPTS_FILE).is_file():
            write_index(folder)
    if gallery is not None and Path(gallery).suffix.lower() == ".html":
        write_gallery_page(candidates, scores, gallery)
    elif gallery is not None:
        write_gallery(candidates, gallery)
    return scores


def evaluate_prior(
    prior: str, out: str | Path | None = None, *, gallery: str | Path | None = None, samples: int
) -> dict[str, Any]:
    """Score a prior on the nouns of the library that it knows.

    Args:
      prior: name or folder, see `load_prior`.
      out: JSON file of the figures; None writes none.
      gallery: PNG of samples; None draws none.
      samples: pictures a figure.

    Raises:
      UserError: the prior knows no noun of the library, its size does not fit, or there are too few
        samples.
    """
    prepare_jax()
    model = load_prior(prior)
    names = model.known_nouns
    known = [noun for noun in nouns() if not names or noun in names]
    fits = SIZE % model.image_shape[0] == 0 and model.latent_shape == model.image_shape
    if not isinstance(model, Prior) or not known or not fits:
        raise UserError(
            f"The prior {prior!r} cannot be scored: the suite is for priors of pictures that know "
            f"nouns of the shipped library, of a size that divides {SIZE} pixels."
        )
    if samples < 32:
        raise UserError("The figures of a prior need at least 32 samples.")
    if gallery is not None:
        check_png(gallery)
    return prior_suite.evaluate_prior(
        model,
        known,
        RetrievalEvaluator.load(),
        samples=samples,
        out=out,
        sample_sheet=gallery,
    )


def evaluate_retrieval_evaluator(out: str | Path | None = None) -> dict[str, Any]:
    """Score the retrieval evaluator that ships on held-out pictures of the true objects.

    Args:
      out: JSON file of the figures; None writes none.
    """
    prepare_jax()
    figures = {"suite": "evaluator"} | retrieval_evaluator.check_object_views(
        RetrievalEvaluator.load()
    )
    print("\n".join(f"{name:<24} {figure}" for name, figure in figures.items()))
    if out is not None:
        write_json(out, figures)
    return figures


def _keep(path: Path, scores: dict[str, Any]) -> None:
    try:
        write_json(path, scores)
        if (path.parent / "report.html").is_file():
            write_report(path.parent)
    except UserError as error:  # a folder of somebody else's: the scores are in the table
        print(error, file=sys.stderr)


def _candidate(workdir: Path) -> Candidate:
    run = restore_run(workdir)
    return Candidate(
        workdir=str(workdir),
        prompt=run.config.prompt.text,
        step=run.step,
        scene=run.scene,
        params=run.params,
        look=ViewConfig.from_config(run.config),
        minutes=minutes_of(read_metrics(workdir)),
    )
