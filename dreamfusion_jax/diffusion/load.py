"""Finding a prior by name or folder."""

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior, matching
from dreamfusion_jax.diffusion.pretrained_prior import load_pretrained
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.diffusion.text_to_image import TextToImagePrior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.colors import recolored
from dreamfusion_jax.furniture.object_views import (
    OBJECT_VIEWS,
    SIZE,
    box_downsample,
    load_object_views,
    read_index,
)
from dreamfusion_jax.furniture.shipped import asset_folder
from dreamfusion_jax.model_files import WORD, check_fields, each, read_config
from dreamfusion_jax.pretrained.folder import is_model_folder, resolved
from dreamfusion_jax.pretrained.hub import fetch, is_hub_id
from dreamfusion_jax.prompts.known_nouns import COLOR_WORDS
from dreamfusion_jax.prompts.view_prompts import FINE_WORDS, VIEW_WORDS, fine_view_index, view_index
from dreamfusion_jax.prompts.word_vectors import contains_phrase
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.types import Camera

# "embedded" is the shipped prior with the better scores: see the README.
DEFAULT = "furniture-views"
DTYPES = ("float32", "bfloat16")


def load_prior(
    name_or_path: str,
    *,
    dtype: str = "float32",
    image_size: int = 32,
    prompts: Sequence[str] = (),
    encodes: bool = True,
) -> Prior:
    """Loads a frozen text-to-image prior.

    Args:
      name_or_path: "embedded" (the default prior), "furniture-views" (the exact denoiser
        of the shipped pictures), "furniture-unet" (the shipped network), the folder of a
        model that `dreamfusion train-prior` wrote or of DeepFloyd IF (stage I) or Stable
        Diffusion (1.x, 2.x) in the layout of diffusers, or such a model's id on the hub.
      dtype: "float32" or "bfloat16", of a network's parameters and of its computation.
      image_size: side in pixels that "furniture-views" works at, a divisor of 128; networks
        have a size of their own.
      prompts: "furniture-views" reads only the pictures that these match (all by default),
        which is all that is ever asked for where nothing unconditional is.
      encodes: whether its `encode` will be called. Where not, the text encoder of a published
        model is left alone: its weights need not be there.

    Raises:
      UserError: there is no such prior, or its folder cannot be read.
    """
    name = DEFAULT if name_or_path == "embedded" else name_or_path
    if name == "furniture-views":
        return furniture_views(image_size, prompts)
    check_dtype(dtype)
    if name == "furniture-unet":
        return TextToImagePrior.load(asset_folder("unet"), jnp.dtype(dtype))
    if not is_pretrained(name):
        return TextToImagePrior.load(_model_folder(Path(name)), jnp.dtype(dtype))
    path = resolved(Path(name)) if os.path.isdir(name) else fetch(name, jnp.dtype(dtype))
    return load_pretrained(path, jnp.dtype(dtype), encodes=encodes)


def check_dtype(dtype: str) -> None:
    """Raises a UserError for what networks are not computed in."""
    if dtype not in DTYPES:
        raise UserError(f"prior_dtype is {dtype!r}; choose one of {', '.join(DTYPES)}.")


def known_names(name_or_path: str) -> tuple[str, ...]:
    """The nouns that a prior knows, and their synonyms; () where it may know any."""
    name = DEFAULT if name_or_path == "embedded" else name_or_path
    if name == "furniture-views":
        return tuple(
            n for o in read_index(OBJECT_VIEWS)["objects"] for n in (o["noun"], *o["synonyms"])
        )
    if is_pretrained(name):
        return ()
    folder = asset_folder("unet") if name == "furniture-unet" else Path(name)
    config = _model_config(folder)
    check_fields(config, {"names": each(WORD, most=100_000, least=0)}, f"{folder}/config.json")
    return tuple(config.get("names", ()))


def has_own_size(name_or_path: str) -> bool:
    """Whether a prior works at one size of images, whatever `image_size` it is loaded with."""
    return not has_pictures(name_or_path)


def has_pictures(name_or_path: str) -> bool:
    """Whether a prior is the exact denoiser of the shipped pictures, and no network."""
    name = DEFAULT if name_or_path == "embedded" else name_or_path
    return name == "furniture-views"


def is_pretrained(name_or_path: str) -> bool:
    """Whether a prior is a published model (so large that one copy of it has to do).

    What stands on this machine is never taken for the id of a model on the hub.
    """
    if os.path.isdir(name_or_path):
        return is_model_folder(resolved(Path(name_or_path)))
    return is_hub_id(name_or_path) and not os.path.lexists(name_or_path)


def warn_unknown_words(prior: Prior, prompt: str, name: str) -> None:
    """Says which words of a prompt the prior does not know; the run goes on."""
    unknown = prior.unknown_words(prompt)
    if unknown:
        print(
            f"The prior {name!r} can make nothing of: {', '.join(unknown)}. The result will ignore "
            "them; a larger prior can be chosen with --config.prior=FOLDER (see the README).",
            file=sys.stderr,
        )


def furniture_views(image_size: int, prompts: Sequence[str] = ()) -> EmpiricalPrior:
    """The closed-form denoiser of the shipped object views at a size that divides 128.

    Where `prompts` are given, of the objects that these name only, from all sides, and in the
    colors that they say of them.

    Raises:
      UserError: the size does not divide 128, or an object cannot have a color.
    """
    index = read_index(OBJECT_VIEWS)
    objects = index["objects"]
    captions = [caption for entry in objects for caption in _captions(entry)]
    wanted = np.ones(len(captions), bool)
    if prompts:
        wanted = np.any([matching(prompt, captions) for prompt in prompts], axis=0)
        named = wanted.reshape(len(objects), -1).any(axis=1)
        wanted = np.repeat(named, len(captions) // len(objects))
    _check_size(image_size)
    dyed = _dyed(prompts, objects)
    # Of each object the pictures that are wanted, by their place among all, and their colors.
    places = np.arange(len(captions)).reshape(len(objects), -1)
    parts = [
        (entry["noun"], where[wanted[where]], word)
        for entry, where in zip(objects, places, strict=True)
        for word in dyed.get(entry["noun"], [""])
        if wanted[where].any()
    ]
    # One object at a time: the whole library in float32 would be five gigabytes.
    count = sum(len(where) for _, where, _ in parts)
    pictures = np.empty((count, image_size, image_size, 4), np.float32)
    filled = 0
    for noun, where, word in parts:
        views = load_object_views(nouns=[noun]).rgba[0, where % places.shape[1]]
        shown = _in_color(views, word, noun) if word else views
        added = slice(filled, filled := filled + len(where))
        pictures[added] = box_downsample(shown.astype(np.float32) / 255, image_size)
    kept = [_of_color(captions[i], word) for _, where, word in parts for i in where]
    index_of = np.concatenate([where for _, where, _ in parts])
    poses = jax.tree.map(lambda x: np.asarray(x)[index_of], _poses(index))
    return EmpiricalPrior.from_pictures(pictures, kept, poses=poses)


def _dyed(prompts: Sequence[str], objects: Sequence[dict]) -> dict[str, list[str]]:
    """The colors that prompts say of each noun; "" for its own."""
    found: dict[str, list[str]] = {}
    for prompt in prompts:
        for entry in objects:
            names = [n for n in (entry["noun"], *entry["synonyms"]) if contains_phrase(prompt, n)]
            if names:
                hues = [
                    w
                    for w in COLOR_WORDS
                    if any(contains_phrase(prompt, f"{w} {n}") for n in names)
                ]
                found.setdefault(entry["noun"], []).append(hues[0] if hues else "")
    return {noun: list(dict.fromkeys(hues)) for noun, hues in found.items()}


def _in_color(views: UInt8[np.ndarray, "n size size 4"], word: str, noun: str) -> np.ndarray:
    """Views of an object, all dyed as one picture, so that they agree."""
    dyed = recolored(views.reshape(-1, *views.shape[2:]), word)
    if dyed is None:
        raise UserError(f"The {noun} of the shipped pictures cannot be made {word}.")
    return dyed.reshape(views.shape)


def _of_color(caption: Caption, word: str) -> Caption:
    if not word:
        return caption
    noun, *synonyms = (f"{word} {name}" for name in (caption.noun, *caption.synonyms))
    return Caption(noun, tuple(synonyms), caption.views)


def _poses(index: dict[str, Any]) -> Camera:
    """The cameras of all pictures of the library."""
    azimuth, elevation = (
        np.concatenate([entry[name] for entry in index["objects"]]).astype(np.float32)
        for name in ("azimuth", "elevation")
    )
    lens = {"distance": index["distance"], "focal": index["focal"]}
    return jax.jit(functools.partial(orbit_camera, **lens))(azimuth, elevation)


def _captions(entry: dict[str, Any]) -> list[Caption]:
    azimuth, elevation = (jnp.asarray(entry[name]) for name in ("azimuth", "elevation"))
    views = zip(
        np.asarray(view_index(azimuth, elevation)).tolist(),
        np.asarray(fine_view_index(azimuth, elevation)).tolist(),
        strict=True,
    )
    noun, synonyms = entry["noun"], tuple(entry["synonyms"])
    return [Caption(noun, synonyms, (VIEW_WORDS[i], FINE_WORDS[j])) for i, j in views]


def _check_size(size: int) -> None:
    if size < 1 or SIZE % size:
        raise UserError(
            f"The prior furniture-views has pictures of {SIZE} pixels; an image size of {size} "
            "does not divide that."
        )


def _model_folder(path: Path) -> Path:
    _model_config(path)
    return path


def _model_config(path: Path) -> dict[str, Any]:
    if os.path.isfile(path):
        raise UserError(
            f"{path} is a file, and a prior is a folder: that of a model in the layout of "
            "diffusers (from a single file, its from_single_file and save_pretrained write one)."
        )
    if not os.path.isdir(path):
        raise UserError(
            f"There is no prior {str(path)!r}: give embedded, furniture-views, furniture-unet, "
            "the folder of a model, or its id on the hub."
        )
    try:
        return read_config(path / "config.json")
    except OSError as error:
        raise UserError(
            f"{path} is not a model folder that can be read: it has no model_index.json, as the "
            f"published models do, and its config.json cannot be read ({error.strerror})."
        ) from error
