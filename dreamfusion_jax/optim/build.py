"""The optimizer that a config asks for."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import optax

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.optim.learning_rate import warmup_cosine
from dreamfusion_jax.optim.shampoo import shampoo

FACTORIES = {"shampoo": shampoo, "adam": optax.adam}


def build_optimizer(
    config_optim: ml_collections.ConfigDict, total_steps: int, batch_axis_name: str | None = None
) -> optax.GradientTransformation:
    """Chain clipping, then Shampoo or Adam with warm-up and cosine decay.

    Args:
      config_optim: `name` ("shampoo" or "adam"), `learning_rate` (the peak), `warmup_start`,
        `warmup_steps`, `final_learning_rate`, `clip_norm` (largest global norm of a
        gradient, 0 for no limit), and the optimizer's own arguments under its name.
      total_steps: length of the run, the end of the decay.
      batch_axis_name: mapped axis over which Shampoo spreads its roots.

    Raises:
      UserError: an unknown optimizer, an unknown argument of it or a value out of range.
    """
    name = config_optim["name"]
    if name not in FACTORIES:
        raise UserError(f"optim.name is {name!r}; choose one of {', '.join(FACTORIES)}.")
    settings = dict(config_optim.get(name, {}))
    _check_keys(name, settings)
    if name == "shampoo":
        settings["batch_axis_name"] = batch_axis_name
    try:
        schedule = warmup_cosine(
            total_steps,
            peak=config_optim["learning_rate"],
            start=config_optim["warmup_start"],
            end=config_optim["final_learning_rate"],
            warmup_steps=config_optim["warmup_steps"],
        )
        optimizer = FACTORIES[name](schedule, **settings)
        tables = _for_tables(config_optim, total_steps)
    except ValueError as error:
        raise UserError(f"The config's optim cannot be used: {error}") from error
    if tables is not None:
        optimizer = optax.multi_transform({"tables": tables, "rest": optimizer}, _labels)
    return optax.chain(_clip(config_optim["clip_norm"]), optimizer)


def _for_tables(
    config_optim: ml_collections.ConfigDict, total_steps: int
) -> optax.GradientTransformation | None:
    """Return Adam at the tables' own learning rate, None where they have none."""
    rates = config_optim.get("tables", {"learning_rate": 0.0})
    if not rates["learning_rate"]:
        return None
    schedule = warmup_cosine(
        total_steps,
        peak=rates["learning_rate"],
        start=rates["learning_rate"],
        end=rates["final_learning_rate"],
        warmup_steps=0,
    )
    return optax.adam(schedule, **config_optim.get("adam", {}))


def _labels(params: Any) -> Any:
    """ "tables" for the grids of a field, whose names begin with "level", "rest" for all else."""

    def label(path, _):
        return "tables" if str(getattr(path[-1], "key", "")).startswith("level") else "rest"

    return jax.tree_util.tree_map_with_path(label, params)


def _check_keys(name: str, settings: Mapping[str, Any]) -> None:
    known = [key for key in inspect.signature(FACTORIES[name]).parameters if key != "learning_rate"]
    for key in settings:
        if key not in known:
            raise UserError(f"optim.{name} has no argument {key!r}; it takes {', '.join(known)}.")


def _clip(clip_norm: float) -> optax.GradientTransformation:
    if clip_norm < 0:
        raise UserError(f"optim.clip_norm is {clip_norm}; give a norm, or 0 for no clipping.")
    return optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
