"""`dreamfusion evaluate`."""

import argparse
from typing import Any

from dreamfusion_jax.command_options import given
from dreamfusion_jax.errors import UserError

SUMMARY = "score runs against the true objects, or a prior"

_OWN = {  # options of one suite only
    "clip": ("clip", "prompts", "azimuths", "elevation"),
    "prior": ("prior", "samples"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument(
        "runs", nargs="*", metavar="WORKDIR", default=[], help="folders of finished runs"
    )
    parser.add_argument(
        "--suite",
        choices=("furniture", "clip", "mesh", "prior", "evaluator"),
        default="furniture",
        help="furniture: runs against the true objects; clip: R-Precision of runs or folders of "
        "pictures; mesh: the runs' mesh.glb against their fields; prior: a prior; evaluator: the "
        "retrieval evaluator that ships (default: %(default)s)",
    )
    parser.add_argument(
        "--clip",
        metavar="FOLDER",
        help="of --suite=clip: a CLIP model, or embedded, the retrieval evaluator that ships "
        "(default: embedded)",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="of --suite=clip: all captions, one a line; also .json, Dream Fields' .py, or "
        "coco_captions:FILE with ids (default: with embedded the library's nouns)",
    )
    parser.add_argument("--azimuths", type=int, help="of --suite=clip: views of a run (default: 8)")
    parser.add_argument("--elevation", type=float, help="of these views, degrees (default: 30)")
    parser.add_argument(
        "--prior", help="of --suite=prior: name or folder (default: furniture-unet)"
    )
    parser.add_argument(
        "--samples", type=int, help="of --suite=prior: pictures a figure (default: 200)"
    )
    parser.add_argument(
        "--out",
        help="JSON file of the scores (default: evaluation.json, or evaluation-SUITE.json)",
    )
    parser.add_argument(
        "--gallery", help="PNG or HTML page of all results, below their true objects, or of samples"
    )


def run(options: argparse.Namespace) -> None:
    """Score what the suite is for; the scores are printed and written."""
    from dreamfusion_jax import api
    from dreamfusion_jax.io import local_path

    suite, runs = options.suite, options.runs
    own, gallery = _own_options(options), given(options, "gallery")
    out = getattr(options, "out", "") or _default_out(suite)
    for path in (out, *gallery.values()):  # before anything is rendered
        local_path(path)
    if suite == "clip":
        api.evaluate_clip(runs, out=out, **gallery, **own)
    elif suite == "furniture":
        api.evaluate(runs, out, **gallery)
    elif suite == "mesh":
        api.evaluate_meshes(runs, out)
    elif runs:
        instead = " but --prior, the name or folder of one" if suite == "prior" else ""
        raise UserError(f"--suite={suite} takes no runs{instead}.")
    elif suite == "evaluator":
        api.evaluate_retrieval_evaluator(out)
    else:
        sheet = {"sample_sheet": options.gallery} if gallery else {}
        api.evaluate_prior(out=out, **sheet, **own)


def _default_out(suite: str) -> str:
    return "evaluation.json" if suite == "furniture" else f"evaluation-{suite}.json"


def _own_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of one suite that were given; those of another are refused."""
    suite = options.suite
    for owner, names in _OWN.items():
        found = [name for name in names if hasattr(options, name)]
        if found and owner != suite:
            raise UserError(f"--{found[0]} belongs to --suite={owner}.")
    if suite in ("mesh", "evaluator") and hasattr(options, "gallery"):
        raise UserError(f"--suite={suite} has no --gallery.")
    return given(options, *_OWN.get(suite, ()))
