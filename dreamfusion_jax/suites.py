"""Suites: what `evaluate` and `dreamfusion evaluate --suite=NAME` score by."""

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dreamfusion_jax import registry
from dreamfusion_jax.errors import UserError


@runtime_checkable
class Suite(Protocol):
    """What the registry has under the kind "suite": a class with static methods, or a module.

    All are imported for --help: what is heavy, JAX first of all, `evaluate` imports itself.
    """

    SUMMARY: str  # of what is scored, in lower case

    def add_arguments(self, parser: Any) -> None:
        """Add the suite's own options, without defaults, named as `evaluate` calls them."""

    def evaluate(self, runs: Sequence[str | Path], out: str | Path | None) -> dict[str, Any]:
        """Score runs, print a table and write one JSON file; return what it holds.

        A suite that draws a gallery takes one more argument of that name, and what is its own.
        Without an argument `runs` it scores something else. Raises a UserError for bad input.
        """


def evaluate(
    runs: Sequence[str | Path] = (),
    out: str | Path | None = None,
    *,
    suite: str = "furniture",
    **settings: Any,
) -> dict[str, Any]:
    """Score runs, or a prior, by a suite; print a table.

    Args:
      runs: folders of finished runs, or of folders of them; none for a suite of something else.
      out: JSON file of the scores; None writes none.
      suite: a name that the registry knows: "clip" (R-Precision) and "mesh" (does the mesh show
        what the field does?), and of the shipped objects "furniture" (runs against the true
        objects), "prior" and "evaluator".
      **settings: of the suite: `gallery`, a file of all results in pictures, and its own.

    Returns:
      The content of the JSON file.

    Raises:
      UserError: there is no such suite, it has no such setting, or a run cannot be scored.
    """
    function = find_suite(suite).evaluate
    known = inspect.signature(function).parameters
    for name in settings:
        if name not in known or name in ("runs", "out"):
            raise UserError(f"The suite {suite!r} has no {name!r}.")
    if "runs" in known:
        return function(runs, out=out, **settings)
    if runs:
        instead = " but a prior: its name or folder" if "prior" in known else ""
        raise UserError(f"The suite {suite!r} takes no runs{instead}.")
    return function(out=out, **settings)


def find_suite(name: str) -> Suite:
    """Return a suite by its name; raise a UserError where there is none, or it is none."""
    suite = registry.class_of("suite", name)
    if not isinstance(suite, Suite):
        raise UserError(f"The suite {name!r} must have SUMMARY, add_arguments and evaluate.")
    return suite


@registry.register("suite", "clip")
class ClipSuite:
    """R-Precision of runs and of pictures among captions (Table 1 of the paper)."""

    SUMMARY = "R-Precision of runs or folders of pictures"

    @staticmethod
    def add_arguments(parser: argparse._ActionsContainer) -> None:
        """Add the model's folder, the captions' file, and the views."""
        parser.add_argument(
            "--clip",
            metavar="FOLDER",
            help="a CLIP model, or embedded, the retrieval evaluator that ships (default: "
            "embedded)",
        )
        parser.add_argument(
            "--prompts",
            metavar="FILE",
            help="all captions, one a line; also .json, Dream Fields' .py, or coco_captions:FILE "
            "with ids (default: with embedded the nouns that it knows)",
        )
        parser.add_argument("--azimuths", type=int, help="views of a run (default: 8)")
        parser.add_argument("--elevation", type=float, help="of these views, degrees (default: 30)")

    @staticmethod
    def evaluate(
        runs: Sequence[str | Path],
        out: str | Path | None = None,
        *,
        gallery: str | Path | None = None,
        prompts: str | Path | None = None,
        clip: str | Path = "embedded",
        azimuths: int = 8,
        elevation: float = 30.0,
    ) -> dict[str, Any]:
        """See `scoring.evaluate_clip`."""
        from dreamfusion_jax.scoring import evaluate_clip

        return evaluate_clip(
            runs, prompts, clip, out, gallery=gallery, azimuths=azimuths, elevation=elevation
        )


@registry.register("suite", "mesh")
class MeshSuite:
    """The mesh.glb of runs against their scenes."""

    SUMMARY = "the runs' mesh.glb against their scenes"

    @staticmethod
    def add_arguments(parser: argparse._ActionsContainer) -> None:
        """Add nothing."""

    @staticmethod
    def evaluate(runs: Sequence[str | Path], out: str | Path | None = None) -> dict[str, Any]:
        """See `scoring.evaluate_meshes`."""
        from dreamfusion_jax.scoring import evaluate_meshes

        return evaluate_meshes(runs, out)
