"""The suites of the shipped objects, see `dreamfusion_jax.suites.Suite`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class RunsSuite:
    """Runs against the true objects."""

    SUMMARY = "runs against the true objects"

    @staticmethod
    def add_arguments(parser: argparse._ActionsContainer) -> None:
        """Add nothing."""

    @staticmethod
    def evaluate(
        runs: Sequence[str | Path],
        out: str | Path | None = None,
        *,
        gallery: str | Path | None = None,
    ) -> dict[str, Any]:
        """See `furniture.scoring.evaluate_runs`."""
        from dreamfusion_jax.furniture.scoring import evaluate_runs

        return evaluate_runs(runs, out, gallery=gallery)


class PriorSuite:
    """What a prior draws of the nouns that it knows."""

    SUMMARY = "what a prior draws"

    @staticmethod
    def add_arguments(parser: argparse._ActionsContainer) -> None:
        """Add the prior and the number of samples."""
        parser.add_argument("--prior", help="name or folder (default: furniture-unet)")
        parser.add_argument("--samples", type=int, help="pictures a figure (default: 200)")

    @staticmethod
    def evaluate(
        out: str | Path | None = None,
        *,
        gallery: str | Path | None = None,
        prior: str = "furniture-unet",
        samples: int = 200,
    ) -> dict[str, Any]:
        """See `furniture.scoring.evaluate_prior`."""
        from dreamfusion_jax.furniture.scoring import evaluate_prior

        return evaluate_prior(prior, out, gallery=gallery, samples=samples)


class EvaluatorSuite:
    """What the retrieval evaluator makes of the true objects."""

    SUMMARY = "the retrieval evaluator that ships"

    @staticmethod
    def add_arguments(parser: argparse._ActionsContainer) -> None:
        """Add nothing."""

    @staticmethod
    def evaluate(out: str | Path | None = None) -> dict[str, Any]:
        """See `furniture.scoring.evaluate_retrieval_evaluator`."""
        from dreamfusion_jax.furniture.scoring import evaluate_retrieval_evaluator

        return evaluate_retrieval_evaluator(out)
