"""Parts that a config names: name -> class.

A config says `{"name": ..., its own keys}` of a part, and `build` makes it. A user's config file
may register classes of its own:

    @register("field", "my_field")
    class MyField(Field): ...
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ml_collections

from dreamfusion_jax.errors import UserError

T = TypeVar("T", bound=type)
_CLASSES: dict[str, dict[str, type]] = {}
_FLAX = ("parent", "name")  # attributes of every flax module


def register(kind: str, name: str) -> Callable[[T], T]:
    """Return a decorator that makes a class known as `name` among those of a kind."""

    def add(cls: T) -> T:
        _CLASSES.setdefault(kind, {})[name] = cls
        return cls

    return add


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all classes of a kind."""
    return tuple(_CLASSES.get(kind, {}))


def class_of(kind: str, name: str) -> type:
    """Return a class by its name.

    Raises:
      UserError: there is none, with the names that there are.
    """
    if name not in names(kind):
        raise UserError(f"There is no {kind} {name!r}; choose one of {', '.join(names(kind))}.")
    return _CLASSES[kind][name]


def defaults(kind: str, name: str) -> dict[str, Any]:
    """Return the keys of a class that a config may set, with their default values."""
    cls = class_of(kind, name)
    return {
        key: parameter.default
        for key, parameter in inspect.signature(cls).parameters.items()
        if key not in (*_FLAX, *getattr(cls, "not_in_config", ()))
        and parameter.default is not inspect.Parameter.empty
    }


def build(
    kind: str, config: Mapping[str, Any] | ml_collections.ConfigDict, where: str, **more: Any
) -> Any:
    """Make the object that a part of a config describes.

    Args:
      kind: of the part.
      config: `name` and keys of its class.
      where: the part's place in the config, for messages.
      **more: arguments that are not the config's to set.

    Raises:
      UserError: an unknown name or key, or a value that the class refuses (a ValueError).
    """
    keys = dict(config)
    cls = class_of(kind, keys.pop("name"))
    known = defaults(kind, config["name"])
    for key in keys:
        if key not in known:
            raise UserError(f"{where} has no key {key!r}; it takes {', '.join(known)}.")
    try:
        return cls(**keys, **more)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} cannot be used: {error}") from error


def check_at_least(owner: Any, **lowest: float) -> None:
    """Raise a ValueError for an attribute of a dataclass that is below its lowest value."""
    for key, low in lowest.items():
        value = getattr(owner, key)
        if value < low:
            raise ValueError(f"{key} is {value}; it must be at least {low}.")
