"""Parts that a config names: name -> class.

A config says `{"name": ..., its own keys}` of a part, and `build` makes it. A user's config file
may register classes of its own:

    @register("field", "my_field")
    class MyField(Field): ...

JAX is imported where it is needed only: the command line reads the names of its commands here.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import ml_collections

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import import_file, is_number

T = TypeVar("T", bound=Callable[..., Any])
Made = TypeVar("Made")
Keys: TypeAlias = Mapping[str, Any] | ml_collections.ConfigDict  # a ConfigDict is no Mapping
# By kind and name: a class, function or module, or where it is until it is asked for.
_PARTS: dict[str, dict[str, Any]] = {}
# Where the classes of a kind are that ship: imported when one is first asked for.
_SHIPPED = {
    "background": "dreamfusion_jax.scene.background",
    "field": "dreamfusion_jax.scene.fields",
    "convert": "dreamfusion_jax.scene.kinds",
    "guidance": "dreamfusion_jax.guidance",
    "regularizer": "dreamfusion_jax.scene.kinds",
    "scene": "dreamfusion_jax.scene.kinds",
    "sampler": "dreamfusion_jax.scene.ray_samplers",
    "suite": "dreamfusion_jax.suites",
}
# What else ships, and may be taken out of the package: it declares its parts itself.
_OPTIONAL = ("dreamfusion_jax.furniture",)
_PLUGINS = "dreamfusion_jax.plugins"  # entry points of other packages, each a module to import
_FLAX = ("parent", "name")  # attributes of every flax module


def register(kind: str, name: str) -> Callable[[T], T]:
    """Return a decorator that makes a class known as `name` among those of a kind."""

    def add(cls: T) -> T:
        _PARTS.setdefault(kind, {})[name] = cls
        return cls

    return add


def declare(kind: str, name: str, where: str) -> None:
    """Make a class or function known by its place, "module:name": imported when it is asked for.

    "module" is a module itself.
    """
    _PARTS.setdefault(kind, {}).setdefault(name, where)


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all classes of a kind."""
    if kind in _SHIPPED:
        importlib.import_module(_SHIPPED[kind])
    _import_plugins()
    return tuple(_PARTS.get(kind, {}))


@functools.cache
def _import_plugins() -> None:
    """Import what declares parts of its own."""
    for module in _OPTIONAL:
        if importlib.util.find_spec(module):
            importlib.import_module(module)
    for plugin in importlib.metadata.entry_points(group=_PLUGINS):
        try:
            plugin.load()
        except Exception as error:
            raise UserError(f"The plug-in {plugin.value} cannot be imported: {error!r}.") from error


def import_plugin(file: str) -> None:
    """Import a Python file, for the parts that it registers.

    Raises:
      UserError: there is no such file, or it fails.
    """
    path = Path(os.path.expanduser(file))
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"There is no plug-in {file}; give the path of a Python file.")
    try:
        import_file(path)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a file that ends the program would seem a success
        raise UserError(f"The plug-in {file} cannot be imported: {error!r}.") from error


def class_of(kind: str, name: str) -> Any:
    """Return a class (or function, or module) by its name.

    Raises:
      UserError: there is none, with the names that there are.
    """
    if not isinstance(name, str) or name not in names(kind):
        raise UserError(f"There is no {kind} {name!r}; choose one of {', '.join(names(kind))}.")
    found = _PARTS[kind][name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = importlib.import_module(module)
        found = _PARTS[kind][name] = getattr(found, attribute) if attribute else found
    return found


def defaults(kind: str, name: str) -> dict[str, Any]:
    """Return the keys of a class that a config may set, with their default values.

    A Ramp is {"start", "end", "steps"}.
    """
    from dreamfusion_jax.schedules import Ramp

    cls = class_of(kind, name)
    return {
        key: dataclasses.asdict(parameter.default)
        if isinstance(parameter.default, Ramp)
        else parameter.default
        for key, parameter in inspect.signature(cls).parameters.items()
        if key not in (*_FLAX, *getattr(cls, "not_in_config", ()))
        and parameter.default is not inspect.Parameter.empty
    }


def build(kind: str, config: Keys, where: str, **more: Any) -> Any:
    """Make the object that a part of a config describes.

    Args:
      kind: of the part.
      config: `name` and keys of its class.
      where: the part's place in the config, for messages.
      **more: arguments that are not the config's to set.

    Raises:
      UserError: an unknown name or key, or a value that the class refuses (a ValueError).
    """
    if not isinstance(config, Mapping | ml_collections.ConfigDict) or "name" not in config:
        raise UserError(f"{where} is {_short(config)}; it must have a name and the keys of that.")
    keys = dict(config)
    cls = class_of(kind, keys.pop("name"))
    known = defaults(kind, config["name"])
    for key in keys:
        if key not in known:
            raise UserError(f"{where} has no key {key!r}; it takes {', '.join(known)}.")
    return make(cls, keys, where, **more)


def make(cls: Callable[..., Made], keys: Keys, where: str, **more: Any) -> Made:
    """Make an object of the keys of a config, whose kinds are those of the class's parameters.

    Args:
      cls: of the object.
      keys: by parameter.
      where: the keys' place in the config, for messages.
      **more: arguments that are not the config's to set.

    Raises:
      UserError: a value is of another kind, or one that the class refuses (a ValueError).
    """
    try:
        _check_kinds(cls, dict(keys), where)
        parts = {key: _part(cls, key, value, where) for key, value in keys.items()}
        return cls(**parts, **more)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} cannot be used: {error}") from error


def _part(cls: Callable[..., Any], key: str, value: Any, where: str) -> Any:
    """Return a value of a config as its class takes it: a Ramp is made of its keys."""
    from dreamfusion_jax.schedules import Ramp

    parameter = inspect.signature(cls).parameters.get(key)
    if parameter is not None and parameter.annotation in (Ramp, "Ramp"):
        if not isinstance(value, Mapping | ml_collections.ConfigDict):
            raise UserError(f"{where}.{key} is {_short(value)}; it must have start, end and steps.")
        return make(Ramp, value, f"{where}.{key}")
    return value


def check_within(owner: Any, **ranges: tuple[float, float]) -> None:
    """Raise a ValueError for an attribute of a dataclass that is out of its range [low, high]."""
    for key, (low, high) in ranges.items():
        value = getattr(owner, key)
        if not low <= value <= high:
            raise ValueError(f"{key} is {_short(value)}; it must be within {low} and {high}.")


# What a value of a config must be for a parameter that is annotated so.
_KINDS = {
    "bool": ("true or false", lambda x: isinstance(x, bool)),
    "int": ("a whole number", lambda x: type(x) is int and abs(x) <= 2**31),
    "float": ("a number", is_number),
    "str": ("a text", lambda x: isinstance(x, str)),
}


def _check_kinds(cls: Callable[..., Any], keys: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(cls).parameters
    for key, value in keys.items():
        annotation = parameters[key].annotation if key in parameters else None
        name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        kind, fits = _KINDS.get(name, ("", lambda _: True))
        if not fits(value):
            raise UserError(f"{where}.{key} is {_short(value)}; it must be {kind}.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:36]} ..."
