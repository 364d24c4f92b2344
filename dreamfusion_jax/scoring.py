"""Scores of finished runs and of priors."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from dreamfusion_jax.diffusion.load import known_names, load_prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.image_folder import has_pictures, read_pictures
from dreamfusion_jax.evaluation.mesh_agreement import (
    MeshAgreement,
    compare_mesh,
    is_closed,
    report_meshes,
)
from dreamfusion_jax.evaluation.renders import EvalCameras, ViewConfig, scene_renders
from dreamfusion_jax.evaluation.retrieval import Shown, evaluate_retrieval, find_caption
from dreamfusion_jax.export.images import check_png
from dreamfusion_jax.export.index import write_index
from dreamfusion_jax.export.mesh_files import read_glb
from dreamfusion_jax.export.report import write_report
from dreamfusion_jax.furniture import prior_suite, retrieval_evaluator
from dreamfusion_jax.furniture.gallery import (
    Strip,
    strip_of,
    write_gallery,
    write_gallery_page,
    write_retrieval_page,
)
from dreamfusion_jax.furniture.object_views import SIZE, nouns
from dreamfusion_jax.furniture.retrieval_evaluator import RetrievalEvaluator
from dreamfusion_jax.furniture.suite import (
    Candidate,
    evaluate_furniture,
    find_noun,
    names,
)
from dreamfusion_jax.io import local_path, write_bytes
from dreamfusion_jax.pretrained.clip_folder import load_clip
from dreamfusion_jax.prompts.known_nouns import with_article
from dreamfusion_jax.prompts.prompt_files import read_captions
from dreamfusion_jax.startup import prepare_jax
from dreamfusion_jax.train.checkpoint import FOLDER, read_config, restore_run, saved_steps
from dreamfusion_jax.train.metrics import minutes_of, read_metrics
from dreamfusion_jax.train.workdir import PROMPTS_FILE


def runs_in(sources: Sequence[str | Path]) -> list[Path]:
    """The folders themselves, and in place of a folder of runs those of its runs.

    FOLDER/* names other things too: a sweep's page and trained models are left out.
    """
    found: list[Path] = []
    for source in map(local_path, sources):
        if source.name == "index.html":
            continue
        inside = sorted(path.parent for path in source.glob("*/config.json"))
        for folder in inside if inside and not (source / "config.json").is_file() else [source]:
            if (folder / "config.json").is_file() and "prompt" not in read_config(folder):
                print(f"{folder} is no run of a prompt, and is left out.", file=sys.stderr)
            else:
                found.append(folder)
    return found


def evaluate(
    workdirs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    gallery: str | Path | None = None,
) -> dict[str, Any]:
    """Scores runs of nouns that the library knows against the true objects.

    Each run's folder gets its own scores as evaluation.json, and its report shows them.

    Args:
      workdirs: folders of runs, or of folders of them.
      out: JSON file of the scores; None writes none.
      gallery: PNG, or HTML page with the scores, of all results below their true objects; None
        draws none.

    Returns:
      The content of the JSON file, see `evaluation.furniture`.

    Raises:
      UserError: a folder is no run, or there is no true object for its prompt.
    """
    if gallery is not None and Path(gallery).suffix.lower() != ".html":
        check_png(gallery)
    runs = runs_in(workdirs)
    for workdir in runs:  # before anything is rendered
        find_noun(read_config(workdir).prompt, names())
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
      workdirs: folders of finished runs, or of folders of them.
      out: JSON file of the figures; None writes none.

    Raises:
      UserError: a folder is no run or has no mesh, or PyVista is missing.
    """
    runs = runs_in(workdirs)
    if not runs:
        raise UserError("There is nothing to evaluate; give the folder of at least one run.")
    for workdir in runs:
        if not (workdir / "mesh.glb").is_file():
            raise UserError(f"{workdir} has no mesh.glb; make one with `dreamfusion export`.")
    prepare_jax()
    return report_meshes([_mesh_agreement(workdir) for workdir in runs], out)


def _mesh_agreement(workdir: Path) -> MeshAgreement:
    run, mesh = restore_run(workdir), read_glb(workdir / "mesh.glb")
    export = run.config.export
    psnr, iou = compare_mesh(run.scene, run.params, mesh, export.distance, export.focal)
    figures = round(psnr, 3), round(iou, 4), len(mesh.faces), is_closed(mesh)
    return MeshAgreement(str(workdir), *figures)


def evaluate_clip(
    sources: Sequence[str | Path],
    prompts: str | Path | None = None,
    clip: str | Path = "embedded",
    out: str | Path | None = None,
    *,
    gallery: str | Path | None = None,
    azimuths: int = EvalCameras.azimuths,
    elevation: float = EvalCameras.elevation,
) -> dict[str, Any]:
    """R-Precision of runs and of pictures among captions (Table 1 of the paper).

    Args:
      sources: folders of finished runs, of folders of them, or of pictures (see
        `evaluation.picture_folder`).
      prompts: where the captions are, see `prompts.captions.read_captions`; with the embedded
        model None means the nouns of the library.
      clip: folder of a CLIP model, or "embedded", the retrieval evaluator that ships.
      out: JSON file of the ranks and figures; None writes none.
      gallery: HTML page of all results with what they were taken for; None writes none.
      azimuths: views of each run, in equal steps from the front.
      elevation: of these views, degrees.

    Returns:
      The content of the JSON file, see `evaluation.retrieval`.

    Raises:
      UserError: a folder is neither a finished run nor one of pictures, a prompt is not among
        the captions, or the model cannot be read.
    """
    if azimuths < 1 or not -90 < elevation < 90:
        raise UserError("azimuths must be at least 1, and elevation between -90 and 90 degrees.")
    if gallery is not None and Path(gallery).suffix.lower() != ".html":
        raise UserError(f"The gallery of R-Precision is an HTML page, not {gallery}.")
    embedded = str(clip) == "embedded"
    if prompts is None and not embedded:
        raise UserError("Give the file of captions: --prompts=captions.txt.")
    captions = [with_article(n) for n in nouns()] if prompts is None else read_captions(prompts)
    runs = runs_in(sources)
    for source in runs:
        _check_source(source, captions)
    prepare_jax()
    model = RetrievalEvaluator.load().encoder if embedded else load_clip(clip)
    lens, background = (
        (retrieval_evaluator.ZOOM, retrieval_evaluator.BACKGROUND) if embedded else (1.0, 1.0)
    )
    around = EvalCameras(azimuths, elevation)
    strips: list[Strip] = []

    def shown() -> Iterator[Shown]:
        for source in runs:
            if (source / "config.json").is_file():
                yield _run_shown(source, model.image_size, around, lens, background)
            else:
                yield from read_pictures(source, captions, background)

    def kept() -> Iterator[Shown]:
        for result in shown():
            strips.append(strip_of(result))
            yield result

    about = {"model": str(clip), "captions": str(prompts or "nouns of the library")}
    about |= dataclasses.asdict(around) | {"background": background}
    result = evaluate_retrieval(
        model, captions, kept() if gallery else shown(), about=about, out=out
    )
    if gallery is not None:
        write_retrieval_page(strips, result, gallery)
    return result


def _check_source(source: Path, captions: Sequence[str]) -> None:
    """Before anything is rendered: is it finished, and does it show one of the captions?"""
    if not (source / "config.json").is_file():
        if not (source.is_dir() and has_pictures(source)):
            raise UserError(f"{source} is neither the folder of a run nor one of pictures.")
        return
    config = read_config(source)
    last, steps = max(saved_steps(source / FOLDER), default=0), config.train.steps
    if last < steps:
        raise UserError(
            f"The run in {source} is at step {last} of {steps}; finish it: repeat its command."
        )
    find_caption(config.prompt, captions, str(source))


def _run_shown(
    workdir: Path, size: int, around: EvalCameras, lens: float, background: float
) -> Shown:
    run = restore_run(workdir)
    look = _look(run.config)
    look = dataclasses.replace(look, focal=look.focal * lens)
    how = {"around": around, "background": background, "albedo": True}
    pictures = scene_renders(run.scene, run.params, look, size, **how)
    return Shown(str(workdir), run.config.prompt, pictures, run.config.seed)


def _look(config: ml_collections.ConfigDict) -> ViewConfig:
    export, light = config.export, config.light
    return ViewConfig(export.distance, export.focal, light.ambient, light.diffuse)


def evaluate_prior(
    prior: str = "furniture-unet", out: str | Path | None = None, **settings: Any
) -> dict[str, Any]:
    """Scores a prior on the nouns of the library that it knows.

    Args:
      prior: name or folder, see `load_prior`.
      out: JSON file of the figures; None writes none.
      **settings: of `evaluation.prior_quality.evaluate_prior`.
    """
    prepare_jax()
    model = load_prior(prior)
    names = known_names(prior)
    known = [noun for noun in nouns() if not names or noun in names]
    fits = SIZE % model.image_shape[0] == 0 and model.latent_shape == model.image_shape
    if not known or not fits:
        raise UserError(
            f"The prior {prior!r} cannot be scored: the suite is for priors of pictures that know "
            f"nouns of the shipped library, of a size that divides {SIZE} pixels."
        )
    if settings.get("samples", 32) < 32:
        raise UserError("The figures of a prior need at least 32 samples.")
    sheet = settings.get("sample_sheet")
    if sheet is not None:
        check_png(sheet)
    return prior_suite.evaluate_prior(model, known, RetrievalEvaluator.load(), out=out, **settings)


def evaluate_retrieval_evaluator(out: str | Path | None = None) -> dict[str, Any]:
    """Scores the retrieval evaluator that ships on held-out pictures of the true objects.

    Args:
      out: JSON file of the figures; None writes none.
    """
    prepare_jax()
    figures = {"suite": "evaluator"} | retrieval_evaluator.check_object_views(
        RetrievalEvaluator.load()
    )
    print("\n".join(f"{name:<24} {figure}" for name, figure in figures.items()))
    if out is not None:
        write_bytes(out, (json.dumps(figures, indent=2) + "\n").encode())
    return figures


def _candidate(workdir: Path) -> Candidate:
    run = restore_run(workdir)
    return Candidate(
        workdir=str(workdir),
        prompt=run.config.prompt,
        step=run.step,
        scene=run.scene,
        params=run.params,
        look=_look(run.config),
        minutes=minutes_of(read_metrics(workdir)),
    )
