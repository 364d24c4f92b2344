"""Scores of finished runs that need nothing but themselves: R-Precision, and their meshes."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dreamfusion_jax import registry
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.gallery import Thumbnails, thumbnails_of, write_retrieval_page
from dreamfusion_jax.evaluation.image_folder import has_images, read_images
from dreamfusion_jax.evaluation.mesh_agreement import (
    MeshAgreement,
    compare_mesh,
    is_closed,
    report_meshes,
)
from dreamfusion_jax.evaluation.renders import EvalCameras, ViewConfig, scene_renders
from dreamfusion_jax.evaluation.retrieval import (
    ResultImages,
    RetrievalModel,
    evaluate_retrieval,
    find_caption,
)
from dreamfusion_jax.export.mesh_files import read_glb
from dreamfusion_jax.pretrained.clip_folder import load_clip
from dreamfusion_jax.prompts.prompt_files import read_captions
from dreamfusion_jax.startup import prepare_jax
from dreamfusion_jax.train.checkpoint import FOLDER, read_config, restore_run, saved_steps
from dreamfusion_jax.train.workdir import runs_in


def evaluate_meshes(
    workdirs: Sequence[str | Path], out: str | Path | None = None
) -> dict[str, Any]:
    """Compare the mesh.glb of runs with their fields, seen by the same cameras.

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
    camera = run.config.eval_camera
    scene, where = run.scene, (camera.distance, camera.focal)
    psnr, iou = compare_mesh(scene, run.params, mesh, *where, step=run.step)
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
    """Return R-Precision of runs and of pictures among captions (Table 1 of the paper).

    Args:
      sources: folders of finished runs, of folders of them, or of pictures (see
        `evaluation.image_folder`).
      prompts: where the captions are, see `prompts.prompt_files.read_captions`; None are those
        that the model is for, of a registered one.
      clip: folder of a CLIP model, or a name of the registry's kind "retrieval_model": "embedded",
        the retrieval evaluator that ships.
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
    if prompts is None and str(clip) not in registry.names("retrieval_model"):
        raise UserError("Give the file of captions: --prompts=captions.txt.")
    found = _retrieval_model(str(clip))
    captions = list(found.captions) if prompts is None else read_captions(prompts)
    runs = runs_in(sources)
    for source in runs:
        _check_source(source, captions)
    prepare_jax()
    model, background = found.model, found.background
    around = EvalCameras(azimuths, elevation)
    thumbnails: list[Thumbnails] = []

    def shown() -> Iterator[ResultImages]:
        for source in runs:
            if (source / "config.json").is_file():
                yield _run_shown(source, model.image_size, around, found.zoom, background)
            else:
                yield from read_images(source, captions, background)

    def kept() -> Iterator[ResultImages]:
        for result in shown():
            thumbnails.append(thumbnails_of(result))
            yield result

    about = {"model": str(clip), "captions": str(prompts or f"those of {clip}")}
    about |= dataclasses.asdict(around) | {"background": background}
    result = evaluate_retrieval(
        model, captions, kept() if gallery else shown(), about=about, out=out
    )
    if gallery is not None:
        write_retrieval_page(thumbnails, result, gallery)
    return result


def _retrieval_model(name: str) -> RetrievalModel:
    if name in registry.names("retrieval_model"):
        return registry.class_of("retrieval_model", name)()
    return RetrievalModel(load_clip(name))


def _check_source(source: Path, captions: Sequence[str]) -> None:
    """Before anything is rendered: is it finished, and does it show one of the captions?"""
    if not (source / "config.json").is_file():
        if not (source.is_dir() and has_images(source)):
            raise UserError(f"{source} is neither the folder of a run nor one of pictures.")
        return
    config = read_config(source)
    last, steps = max(saved_steps(source / FOLDER), default=0), config.train.steps
    if last < steps:
        raise UserError(
            f"The run in {source} is at step {last} of {steps}; finish it: repeat its command."
        )
    find_caption(config.prompt.text, captions, str(source))


def _run_shown(
    workdir: Path, size: int, around: EvalCameras, zoom: float, background: float
) -> ResultImages:
    run = restore_run(workdir)
    look = ViewConfig.from_config(run.config)
    look = dataclasses.replace(look, focal=look.focal * zoom)
    images = scene_renders(
        run.scene,
        run.params,
        look,
        size,
        step=run.step,
        around=around,
        background=background,
        albedo=True,
    )
    return ResultImages(str(workdir), run.config.prompt.text, images, run.config.seed)
