"""`dreamfusion train-evaluator`."""

import argparse
from pathlib import Path
from typing import Any

from dreamfusion_jax.command_options import add_config, given

SUMMARY = "train the retrieval evaluator, a dual encoder of images and texts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    add_config(parser, "evaluator_furniture")
    parser.add_argument(
        "--data",
        required=True,
        help="what `python -m dreamfusion_jax.furniture.evaluator_views` wrote, or library: the "
        "shipped pictures, for a model that has not seen those of the shipped evaluator",
    )
    parser.add_argument("--init", help="folder of a model to start from, of the same architecture")
    parser.add_argument(
        "--workdir",
        default="outputs/evaluator",
        help="checkpoints and model (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Train, print the model's folder and what it makes of true renders."""
    from dreamfusion_jax.config import EVALUATOR_PARTS, load_config, override
    from dreamfusion_jax.furniture.evaluator_training import train_evaluator
    from dreamfusion_jax.furniture.evaluator_views import load_evaluator_views, shipped_views
    from dreamfusion_jax.furniture.shipped import asset_folder
    from dreamfusion_jax.io import local_path

    config = load_config(options.config, EVALUATOR_PARTS)
    override(config, options.overrides)
    asset_folder("ground_truth")  # which the evaluator is checked with: before it is trained
    views = shipped_views() if options.data == "library" else load_evaluator_views(options.data)
    model = train_evaluator(config, views, local_path(options.workdir), **given(options, "init"))
    print(model)
    _print_figures(model, views)


def _print_figures(model: Path, views: Any) -> None:
    from dreamfusion_jax.furniture.retrieval_evaluator import (
        RetrievalEvaluator,
        check_evaluator,
        check_object_views,
    )

    evaluator = RetrievalEvaluator.load(model)
    figures = check_object_views(evaluator)
    if views.held_out.any():
        figures |= check_evaluator(evaluator, views)
    for name, figure in figures.items():
        print(f"{name:<24} {figure:>8}")
