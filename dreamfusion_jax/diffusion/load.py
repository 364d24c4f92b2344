"""Finding a prior by name, folder or id."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from dreamfusion_jax import registry
from dreamfusion_jax.diffusion.pretrained_prior import check_kind, load_pretrained
from dreamfusion_jax.diffusion.prior import FrozenModel
from dreamfusion_jax.diffusion.text_to_image import TextToImagePrior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.pretrained.folder import is_model_folder, resolved
from dreamfusion_jax.pretrained.hub import fetch, is_hub_id

DTYPES = ("float32", "bfloat16")


def load_prior(
    name_or_path: str,
    *,
    dtype: str = "float32",
    image_size: int = 32,
    prompts: Sequence[str] = (),
    encodes: bool = True,
) -> FrozenModel:
    """Return a frozen text-to-image prior for views of a size: `find_prior(...).at(...)`.

    Args:
      name_or_path: see `find_prior`, as for `dtype` and `encodes`.
      image_size: pixels a side, for priors that have no size of their own.
      prompts: all that it will be asked for; () is anything.

    Raises:
      UserError: there is no such prior, it cannot be read, or does not work at that size.
    """
    return find_prior(name_or_path, dtype=dtype, encodes=encodes).at(image_size, prompts)


def find_prior(
    name_or_path: str, *, dtype: str = "float32", encodes: bool = True, **keys: Any
) -> FrozenModel:
    """Return a frozen text-to-image prior, whose `at` makes it ready for views of a size.

    Args:
      name_or_path: a registered name ("embedded", "furniture-views" or "furniture-unet" ship), the
        folder of a model that `dreamfusion train-prior` wrote or of DeepFloyd IF (stage I) or
        Stable Diffusion (1.x, 2.x) in the layout of diffusers, or such a model's id on the hub.
      dtype: "float32" or "bfloat16", of a network's parameters and of its computation.
      encodes: whether its `encode` will be called. Where not, the text encoder of a published
        model is left alone: its weights need not be there.
      **keys: what a registered prior takes beside its name.

    Raises:
      UserError: there is no such prior, or its folder cannot be read.
    """
    check_dtype(dtype)
    if name_or_path in registry.names("prior"):
        known = registry.defaults("prior", name_or_path)
        own = {"dtype": dtype} if "dtype" in known else {}
        return registry.build("prior", {"name": name_or_path, **own, **keys}, "prior")
    if keys:
        raise UserError(f"prior has no key {next(iter(keys))!r}; it takes name and dtype.")
    if not is_pretrained(name_or_path):
        folder = Path(name_or_path)
        _check_folder(folder)
        return TextToImagePrior.load(folder, jnp.dtype(dtype))
    is_folder = os.path.isdir(name_or_path)
    if is_folder:
        path = resolved(Path(name_or_path))
    else:
        path = fetch(name_or_path, jnp.dtype(dtype), check_kind)
    return load_pretrained(path, jnp.dtype(dtype), encodes=encodes)


def check_dtype(dtype: str) -> None:
    """Raise a UserError for what networks are not computed in."""
    if dtype not in DTYPES:
        raise UserError(f"prior.dtype is {dtype!r}; choose one of {', '.join(DTYPES)}.")


def is_large(name_or_path: str) -> bool:
    """Return whether one copy of a prior has to do, before anything of it is read."""
    if name_or_path in registry.names("prior"):
        return bool(getattr(registry.class_of("prior", name_or_path), "large", False))
    return is_pretrained(name_or_path)


def is_pretrained(name_or_path: str) -> bool:
    """Return whether a prior is a published model.

    What stands on this machine is never taken for the id of a model on the hub.
    """
    if os.path.isdir(name_or_path):
        return is_model_folder(resolved(Path(name_or_path)))
    return is_hub_id(name_or_path) and not os.path.lexists(name_or_path)


def warn_unknown_words(prior: FrozenModel, prompt: str, name: str) -> None:
    """Say which words of a prompt the prior does not know; the run goes on."""
    unknown = prior.unknown_words(prompt)
    if unknown:
        print(
            f"The prior {name!r} can make nothing of: {', '.join(unknown)}. The result will ignore "
            "them; a larger prior can be chosen with --config.prior.name=FOLDER (see the README).",
            file=sys.stderr,
        )


def _check_folder(path: Path) -> None:
    if os.path.isfile(path):
        raise UserError(
            f"{path} is a file, and a prior is a folder: that of a model in the layout of "
            "diffusers (from a single file, its from_single_file and save_pretrained write one)."
        )
    if not os.path.isdir(path):
        raise UserError(
            f"There is no prior {str(path)!r}: give one of {', '.join(registry.names('prior'))}, "
            "the folder of a model, or its id on the hub."
        )
    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} is not a model folder that can be read: it has no model_index.json, as the "
            "published models do, and no config.json."
        )
