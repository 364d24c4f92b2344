"""Reading configs by name or file, and overriding their values."""

import ast
import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections

from dreamfusion_jax import registry
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import import_file, is_number

# The parts that a config of each kind has.
RUN_PARTS = ("prompt", "prior", "scene", "guidance", "train", "export")
PRIOR_PARTS = ("model", "data", "sheet")
# Keys that choose a class by its name -> its kind in the registry.
PARTS = {
    "prior.name": "prior",
    "scene.name": "scene",
    "scene.background.name": "background",
    "scene.field.name": "field",
    "scene.sampler.name": "sampler",
    "guidance.name": "guidance",
}
# What parts of a kind keep where another is chosen.
_KEPT = {
    "prior": ("dtype", "replace_unknown_nouns"),
    "scene": ("space", "radius", "field", "background", "lambda_sigma"),
}
EVALUATOR_PARTS = ("model", "view_weight")


def load_config(
    name_or_file: str = "quick", needs: Sequence[str] = ()
) -> ml_collections.ConfigDict:
    """Return `get_config()` of a shipped config, or of a Python file.

    "ablations.ROW" is a row of `configs/ablations`.

    Raises:
      UserError: there is no such config, the file has no get_config(), or the config lacks one of
        the parts that it needs.
    """
    config = _find(name_or_file)
    missing = [part for part in needs if part not in config]
    if missing:
        raise UserError(
            f"The config {name_or_file} has no {missing[0]!r}: it is not one for this command."
        )
    return config


def _find(name_or_file: str) -> ml_collections.ConfigDict:
    if name_or_file.endswith(".py"):
        return _from_file(Path(name_or_file))
    name, _, row = name_or_file.partition(".")
    if name not in config_names() or (row and row not in config_rows(name)):
        rows = f"; rows of {name}: {', '.join(config_rows(name))}" if name in config_names() else ""
        raise UserError(
            f"There is no config {name_or_file!r}: give one of {', '.join(config_names())}, "
            f"or the path of a Python file{rows}."
        )
    return _from_file(_folder() / f"{name}.py", *([row] if row else []))


def config_names() -> list[str]:
    """Return the names of the shipped configs."""
    return sorted(path.stem for path in _folder().glob("*.py") if path.stem != "__init__")


def config_rows(name: str) -> tuple[str, ...]:
    """Return what `get_config` of a shipped config may be called with; () is nothing."""
    return tuple(getattr(config_module(name), "ROWS", ()))


def config_module(name: str) -> ModuleType:
    """Return the file of a shipped config as a module."""
    return import_file(_folder() / f"{name}.py")


def _folder() -> Path:
    """Return the shipped configs: within an installed package, and beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def override(config: ml_collections.ConfigDict, values: dict[str, Any]) -> None:
    """Set dotted keys in place; strings are read as the type that the key has.

    A stage of the config takes keys that it has not set yet; `stage_configs` checks them.

    Raises:
      UserError: an unknown key (the nearest known ones are named), or a value of a wrong type.
    """
    for key, value in values.items():
        if key in PARTS and key in _flat(config):
            # What is no name is refused below, with the type that it must have.
            if isinstance(value, str | Path) or PARTS[key] != "prior":
                choose_part(config, key, str(value) if isinstance(value, Path) else value)
    known = _flat(config)
    for key, value in values.items():
        if key not in known and not _is_of_a_stage(config, key):
            part = key.partition(".")[0]
            of_stages = part == "stages" or part not in config
            near = [k for k in known if of_stages or not k.startswith("stages.")]
            raise UserError(f"There is no config key {key!r}.{_suggest(key, near)}")
        with config.unlocked():
            *parents, last = key.split(".")
            owner = config
            for parent in parents:  # those of a stage that has changed nothing of a part
                if parent not in owner:
                    owner[parent] = ml_collections.ConfigDict()
                owner = owner[parent]
            owner[last] = _converted(key, value, known.get(key))


def _is_of_a_stage(config: ml_collections.ConfigDict, key: str) -> bool:
    first, *names = key.split(".")
    if first != "stages" or len(names) < 3 or names[0] not in config.get("stages", {}):
        return False
    parents = {".".join([first, *names[:n]]) for n in range(1, len(names))}
    return "" not in names and parents.isdisjoint(_flat(config))


def choose_part(config: ml_collections.ConfigDict, key: str, name: str) -> None:
    """Change the name of a part in place; where it is another, its keys get their defaults.

    A prior and a scene keep those that all of their kind have; a prior's name may be that of a
    folder or of the hub.

    Raises:
      UserError: there is no such name.
    """
    parent, _, part = key.removesuffix(".name").rpartition(".")
    owner, kind = config[parent] if parent else config, PARTS[key]
    if owner[part].name == name:
        return
    is_known = kind != "prior" or name in registry.names("prior")
    keys = registry.defaults(kind, name) if is_known else {}
    kept = {k: owner[part][k] for k in _KEPT.get(kind, ()) if k in owner[part]}
    if kind == "scene":
        kept = {k: value for k, value in kept.items() if k in keys or k == "space"}
    with owner.unlocked():
        owner[part] = ml_collections.ConfigDict({**keys, **kept, "name": name})


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """A config as it is from step `begin` up to step `until`.

    `convert` says how parameters are made of those before, None if these stay as they are.
    """

    config: ml_collections.ConfigDict
    begin: int
    until: int
    convert: ml_collections.ConfigDict | None = None


# What a stage may change, and of `train` what.
_STAGE_PARTS = ("scene", "camera", "light", "guidance", "regularizers", "optim", "train")
_STAGE_TRAIN = ("image_size", "batch_size")


def stage_configs(config: ml_collections.ConfigDict) -> list[StageConfig]:
    """Return the stages of a run in their order; each keeps what the ones before have changed.

    `config.stages` has them by a name of the user's: `begin`, a share of all steps, that a whole
    number of calls of the compiled program is made of, `convert` if there is one, and the parts of
    the config that change.

    Raises:
      UserError: a stage changes what cannot be changed, or does not say when it begins.
    """
    steps, call = config.train.steps, config.train.steps_per_call
    begins = {name: _begin(name, stage) for name, stage in config.get("stages", {}).items()}
    stages = [StageConfig(config, 0, steps)]
    for name, share in sorted(begins.items(), key=lambda item: item[1]):
        # What begins later has something before it, however short the run is.
        begin = min(max(round(steps * share / call), int(share > 0)) * call, steps)
        changes = config.stages[name]
        stages[-1] = dataclasses.replace(stages[-1], until=begin)
        changed = _changed(stages[-1].config, changes, f"stages.{name}")
        stages.append(StageConfig(changed, begin, steps, changes.get("convert")))
    return [stage for stage in stages if stage.begin < stage.until]


def _begin(name: str, stage: ml_collections.ConfigDict) -> float:
    begin: Any = stage.get("begin") if isinstance(stage, ml_collections.ConfigDict) else None
    if not is_number(begin) or not 0 <= begin <= 1:
        raise UserError(
            f"stages.{name}.begin is {begin!r}; give the share of all steps, within [0, 1], after "
            "which it begins."
        )
    return begin


def _changed(
    config: ml_collections.ConfigDict, changes: ml_collections.ConfigDict, where: str
) -> ml_collections.ConfigDict:
    """Return a copy of a config with changes, whose dotted keys it must have."""
    new = config.copy_and_resolve_references()
    for key in _flat(changes):
        if key == "begin" or key.startswith("convert."):
            continue
        part, _, rest = key.partition(".")
        fixed = part == "train" and rest in config.train and rest not in _STAGE_TRAIN
        if part not in _STAGE_PARTS or fixed:
            raise UserError(f"{where}.{key} cannot be set: it is the same in all stages.")
    flat = {k: v for k, v in _flat(changes).items() if k.partition(".")[0] in _STAGE_PARTS}
    try:
        override(new, flat)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return new.lock()


def _converted(key: str, value: Any, current: Any) -> Any:
    if current is None:
        return _literal(value) if isinstance(value, str) else value
    if isinstance(current, str):
        if isinstance(value, (str, Path)):
            return str(value)
    elif isinstance(value, str):
        value = _literal(value)
    if isinstance(current, bool) and isinstance(value, bool):
        return value
    if isinstance(current, int) and not isinstance(current, bool):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(current, float):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(current, tuple) and isinstance(value, (tuple, list)):
        if all(isinstance(v, str) for v in (*current, *value)):
            return tuple(value)
        if all(type(v) is int for v in (*current, *value)):
            return tuple(value)
        any_length = not key.endswith("_range")
        if any_length or len(value) == len(current):
            if all(type(v) in (int, float) for v in value):
                return tuple(float(v) for v in value)
    raise UserError(
        f"The config key {key!r} takes a value like {current!r} ({type(current).__name__}), "
        f"not {value!r}."
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def _flat(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _suggest(key: str, known: list[str]) -> str:
    last = key.split(".")[-1]
    near = difflib.get_close_matches(key, known, 2, 0.6)
    near += [k for k in known if k.split(".")[-1] == last and k not in near]
    return f" Did you mean {' or '.join(near[:3])}?" if near else ""


def _from_file(path: Path, *arguments: str) -> ml_collections.ConfigDict:
    if not path.is_file():
        raise UserError(f"There is no config file {path}.")
    try:
        get_config = getattr(import_file(path), "get_config", None)
        config = get_config(*arguments) if get_config else None
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file that ends the program would seem a success
        raise UserError(f"The config file {path} cannot be run ({error!r}).") from error
    if get_config is None:
        raise UserError(f"{path} has no function get_config().")
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"get_config() of {path} returns no ml_collections.ConfigDict.")
    return config


def check_seed(seed: int) -> None:
    """Raise a UserError for a seed that random keys do not tell from another."""
    if not -(2**31) <= seed < 2**31:
        raise UserError(f"The seed {seed} does not fit into 32 bits.")
