"""The exact denoiser of the shipped object views, at any size that divides theirs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior, matching
from dreamfusion_jax.diffusion.prior import FrozenModel
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.photographs import Look
from dreamfusion_jax.furniture.colors import recolored
from dreamfusion_jax.furniture.object_pictures import object_pictures
from dreamfusion_jax.furniture.object_views import (
    OBJECT_VIEWS,
    SIZE,
    box_downsample,
    load_object_views,
    read_index,
)
from dreamfusion_jax.prompts.known_nouns import COLOR_WORDS
from dreamfusion_jax.prompts.view_prompts import FINE_WORDS, VIEW_WORDS, fine_view_index, view_index
from dreamfusion_jax.prompts.word_vectors import contains_phrase
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.types import Camera, Conditioning

CLAY = "white clay"  # what prompts call that which is textureless
_MANY = 8  # objects, which take long enough for a progress bar


class FurnitureViews(FrozenModel):
    """The shipped pictures of objects; `at` reads them and gives their exact denoiser."""

    looks: tuple[Look, ...] = (Look(),)  # of each view there is a picture in each

    @property
    def known_nouns(self) -> tuple[str, ...]:  # type: ignore[override]  # it is frozen
        """The nouns of the objects, and their synonyms."""
        objects = read_index(OBJECT_VIEWS)["objects"]
        return tuple(name for entry in objects for name in (entry["noun"], *entry["synonyms"]))

    def check_size(self, size: int) -> None:
        """Raise a UserError where there are no pictures of a size."""
        if size < 1 or SIZE % size:
            raise UserError(
                f"The prior furniture-views has pictures of {SIZE} pixels; an image size of {size} "
                "does not divide that."
            )

    def pictures(self, noun: str, size: int) -> UInt8[np.ndarray, "looks views side side 4"]:
        """Return the pictures of an object: of a size, or of a multiple of it."""
        return load_object_views(nouns=[noun]).rgba

    def at(self, image_size: int, prompts: Sequence[str] = ()) -> EmpiricalPrior:
        """Return the closed-form denoiser of the pictures at a size.

        Where `prompts` are given, of the objects that these name only, from all sides, and in the
        colors that they say of them.

        Raises:
          UserError: there are no pictures of the size, or an object cannot have a color.
        """
        return _denoiser(self, image_size, prompts)

    def reads_colors(self, prompts: Sequence[str]) -> bool:
        """Return whether it is known what will be asked for: only then are views dyed."""
        return bool(prompts)

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Raise a ValueError: `at` says of which views."""
        raise ValueError("ask for it at a size first: it is read by .at(image_size)")


class FurnitureObjects(FurnitureViews):
    """The shipped meshes of the same objects, of which pictures are made when they are needed.

    Args:
      ambient: share of the albedo that is always seen.
      diffuse: weight of the light, which stands beside the camera.
      textureless: whether there are also pictures in which everything is white; only a prompt that
        says "white clay" means these.
      albedo: whether there are also pictures without light.

    Raises:
      ValueError: the light is too dark or too bright.
    """

    def __init__(
        self,
        ambient: float = 0.7,
        diffuse: float = 0.4,
        textureless: bool = False,
        albedo: bool = False,
    ):
        for name, value in (("ambient", ambient), ("diffuse", diffuse)):
            if not 0 <= value <= 10:
                raise ValueError(f"{name} is {value!r}; it must be within [0, 10].")
        self.looks = (Look(ambient, diffuse),)
        self.looks += (Look(1.0, 0.0),) if albedo else ()
        self.looks += (Look(ambient, diffuse, textureless=True),) if textureless else ()

    def check_size(self, size: int) -> None:
        """Raise a UserError for a size that makes no sense."""
        if not 1 <= size <= 1024:
            raise UserError(f"An image size of {size} is not within [1, 1024].")

    def pictures(self, noun: str, size: int) -> UInt8[np.ndarray, "looks views side side 4"]:
        """Return pictures of an object, see `FurnitureViews`: they are made for any size."""
        return object_pictures(noun, size if SIZE % size else SIZE, self.looks)


def furniture_views(image_size: int, prompts: Sequence[str] = ()) -> EmpiricalPrior:
    """Return the denoiser of the shipped pictures, see `FurnitureViews.at`."""
    return FurnitureViews().at(image_size, prompts)


def _denoiser(
    source: FurnitureViews, image_size: int, prompts: Sequence[str] = ()
) -> EmpiricalPrior:
    source.check_size(image_size)
    index = read_index(OBJECT_VIEWS)
    objects = index["objects"]
    captions = [caption for entry in objects for caption in _captions(entry)]
    wanted = np.ones(len(captions), bool)
    if prompts:
        wanted = np.any([matching(prompt, captions) for prompt in prompts], axis=0)
        named = wanted.reshape(len(objects), -1).any(axis=1)
        wanted = np.repeat(named, len(captions) // len(objects))
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
    count = len(source.looks) * sum(len(where) for _, where, _ in parts)
    images = np.empty((count, image_size, image_size, 4), np.float32)
    filled = 0
    for noun, where, word in tqdm(parts, unit="object", disable=len(parts) < _MANY, leave=False):
        for look, views in zip(source.looks, source.pictures(noun, image_size), strict=True):
            shown = views[where % places.shape[1]]
            dye = word and not look.textureless
            shown = _in_color(shown, word, noun) if dye else shown
            added = slice(filled, filled := filled + len(where))
            images[added] = box_downsample(shown.astype(np.float32) / 255, image_size)
    each = [(i, word, look) for _, where, word in parts for look in source.looks for i in where]
    kept = [_of_look(_of_color(captions[i], word), look) for i, word, look in each]
    poses = jax.tree.map(lambda x: np.asarray(x)[[i for i, _, _ in each]], _poses(index))
    return EmpiricalPrior.from_images(images, kept, poses=poses)


def _dyed(prompts: Sequence[str], objects: Sequence[dict]) -> dict[str, list[str]]:
    """Return the colors that prompts say of each noun; "" for its own."""
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
    """Return views of an object, all dyed as one picture, so that they agree."""
    dyed = recolored(views.reshape(-1, *views.shape[2:]), word)
    if dyed is None:
        raise UserError(f"The {noun} of the shipped pictures cannot be made {word}.")
    return dyed.reshape(views.shape)


def _of_color(caption: Caption, word: str) -> Caption:
    if not word:
        return caption
    noun, *synonyms = (f"{word} {name}" for name in (caption.noun, *caption.synonyms))
    return Caption(noun, tuple(synonyms), caption.views)


def _of_look(caption: Caption, look: Look) -> Caption:
    return dataclasses.replace(caption, look=CLAY) if look.textureless else caption


def _poses(index: dict[str, Any]) -> Camera:
    """Return the cameras of all pictures of the library."""
    azimuth, elevation = (
        np.concatenate([entry[name] for entry in index["objects"]]).astype(np.float32)
        for name in ("azimuth", "elevation")
    )
    return orbit_camera(azimuth, elevation, index["distance"], index["focal"])


def _captions(entry: dict[str, Any]) -> list[Caption]:
    azimuth, elevation = (jnp.asarray(entry[name]) for name in ("azimuth", "elevation"))
    views = zip(
        np.asarray(view_index(azimuth, elevation)).tolist(),
        np.asarray(fine_view_index(azimuth, elevation)).tolist(),
        strict=True,
    )
    noun, synonyms = entry["noun"], tuple(entry["synonyms"])
    return [Caption(noun, synonyms, (VIEW_WORDS[i], FINE_WORDS[j])) for i, j in views]
