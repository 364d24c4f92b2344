"""What the prior is trained on: cut-out pictures with captions."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import ml_collections
import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from dreamfusion_jax.config import check_seed
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture import packed
from dreamfusion_jax.furniture.captions import (
    CaptionParts,
    sample_caption,
    view_words,
    with_article,
)
from dreamfusion_jax.furniture.colors import CENTER_HUE, WORDS, recolored
from dreamfusion_jax.furniture.object_views import ObjectViews, load_object_views, read_sheet
from dreamfusion_jax.prompts.view_prompts import FINE_WORDS, fine_view_index

_SIDE = 64  # pixels of the library's pictures here: all of them are held in memory

CAPTIONS = 12  # different captions of each picture


@dataclasses.dataclass(frozen=True)
class CaptionedImages:
    """Pictures with straight alpha, and for each of them several captions that fit it.

    `names`: the nouns and synonyms that occur.
    """

    rgba: UInt8[np.ndarray, "n height width 4"]
    captions: list[list[str]]
    names: tuple[str, ...] = ()

    def all_captions(self) -> list[str]:
        """Return every caption of every picture."""
        return [caption for captions in self.captions for caption in captions]


@dataclasses.dataclass(frozen=True)
class Extras:
    """Made pictures beside the rendered ones, as shares of their number.

    `recolored`: copies in another color, whose captions say it; `pairs`: two objects in one
    picture.
    """

    recolored: float = 0.0
    pairs: float = 0.0


def load_data(
    config: ml_collections.ConfigDict, source: str | os.PathLike | None = None
) -> CaptionedImages:
    """Return the training data of a config.

    Args:
      config: of a prior.
      source: a folder that `furniture.packed` wrote, a TFDS folder, or the .deb file, of which a
        pack is made beside it; without one, the shipped views are taken.
    """
    check_seed(config.seed)
    if config.seed < 0:
        raise UserError(f"config.seed is {config.seed}; it must be at least 0.")
    how = {"seed": config.seed, "extras": Extras(**config.data.extras)}
    if source is None:
        return from_library(load_object_views(size=_SIDE), config.data.nouns, **how)
    source = Path(source)
    if not source.exists():
        raise UserError(f"There is no {source} to take pictures from.")
    if source.is_file():
        source = packed.made_of(source)
    if packed.is_pack(source):
        return from_pack(source, config.data.nouns, **how)
    return from_tfds(source, config.data.nouns, **how)


def from_library(
    library: ObjectViews, nouns: Sequence[str] = (), seed: int = 0, extras: Extras = Extras()
) -> CaptionedImages:
    """Return the shipped views of some nouns (all by default).

    Raises UserError for a noun that the library does not have.
    """
    _check_nouns(nouns, library.nouns)
    index = [library.nouns.index(noun) for noun in (nouns or library.nouns)]
    parts = [
        CaptionParts(
            noun := library.nouns[i],
            tuple(library.synonyms.get(noun, ())),
            color=library.colors.get(noun, ""),
        )
        for i in index
        for _ in range(library.rgba.shape[1])
    ]
    rgba = library.rgba[index]
    angles = library.azimuth[index].ravel(), library.elevation[index].ravel()
    return captioned(rgba.reshape(-1, *rgba.shape[2:]), parts, *angles, seed, extras)


def from_pack(
    folder: str | os.PathLike, nouns: Sequence[str] = (), seed: int = 0, extras: Extras = Extras()
) -> CaptionedImages:
    """Return the pictures of a pack (`furniture.packed`), of some nouns or all.

    Raises UserError where the folder holds no pack, or not these nouns.
    """
    objects = packed.read_pack(folder)
    _check_nouns(nouns, tuple(dict.fromkeys(entry["noun"] for entry in objects)))
    objects = [entry for entry in objects if not nouns or entry["noun"] in nouns]
    parts = [
        CaptionParts(entry["noun"], tuple(entry["synonyms"]), color=entry["color"])
        for entry in objects
        for _ in entry["azimuth"]
    ]
    azimuth, elevation = (
        np.array([a for entry in objects for a in entry[name]], np.float32)
        for name in ("azimuth", "elevation")
    )
    rgba = np.concatenate([read_sheet(Path(folder) / entry["file"]) for entry in objects])
    return captioned(rgba, parts, azimuth, elevation, seed, extras)


def from_tfds(
    folder: str | os.PathLike, nouns: Sequence[str] = (), seed: int = 0, extras: Extras = Extras()
) -> CaptionedImages:
    """Return the training split of a built `captioned_furniture` (needs the [data] extra).

    Raises UserError where the folder holds no such data set, or not these nouns.
    """
    try:
        import tensorflow_datasets as tfds

        rows = list(tfds.builder_from_directory(str(folder)).as_data_source(split="train"))
    except ImportError as error:
        raise UserError(
            "reading a TFDS folder needs more packages: pip install 'dreamfusion_jax[data]'"
        ) from error
    except Exception as error:  # tfds raises many kinds
        raise UserError(
            f"{folder} holds no captioned_furniture data set that can be read ({error}); give the "
            "folder that has its dataset_info.json"
        ) from error
    names = [_text(row["noun"]) for row in rows]
    _check_nouns(nouns, tuple(dict.fromkeys(names)))
    rows = [r for r, name in zip(rows, names, strict=True) if not nouns or name in nouns]
    parts = [
        CaptionParts(
            _text(row["noun"]),
            tuple(filter(None, _text(row["synonyms"]).split(", "))),
            color=_text(row["color"]),
        )
        for row in rows
    ]
    azimuth = np.array([row["azimuth"] for row in rows], np.float32)
    elevation = np.array([row["elevation"] for row in rows], np.float32)
    rgba = np.stack([row["image"] for row in rows])
    return captioned(rgba, parts, azimuth, elevation, seed, extras)


def captioned(
    rgba: UInt8[np.ndarray, "n height width 4"],
    parts: Sequence[CaptionParts],
    azimuth: Float[np.ndarray, "n"],
    elevation: Float[np.ndarray, "n"],
    seed: int,
    extras: Extras,
) -> CaptionedImages:
    """Return pictures with captions, and the extras after them."""
    texts = captions_of(parts, azimuth, elevation, seed)
    rng = np.random.default_rng((seed, 1))
    images = [rgba]
    for i in rng.permutation(len(rgba))[: int(extras.recolored * len(rgba))]:
        word = str(rng.choice(sorted(CENTER_HUE)))
        copy = recolored(rgba[i], word)
        if copy is not None and not any(w in WORDS for w in parts[i].noun.split()):
            noun = dataclasses.replace(parts[i], noun=f"{word} {parts[i].noun}", synonyms=())
            images.append(copy[None])
            texts += captions_of([noun], azimuth[i : i + 1], elevation[i : i + 1], seed + int(i))
    for _ in range(int(extras.pairs * len(rgba))):
        first, second = rng.integers(len(rgba), size=2)
        images.append(side_by_side(rgba[first], rgba[second])[None])
        names = [with_article(parts[i].noun) for i in (first, second)]
        texts.append([f"{names[0]} {word} {names[1]}" for word in BESIDE] * (CAPTIONS // 3))
    return CaptionedImages(np.concatenate(images), texts, _names(parts))


BESIDE = ("and", "beside", "next to")  # of the first object, the left one, and the second


def side_by_side(
    left: UInt8[np.ndarray, "size size 4"], right: UInt8[np.ndarray, "size size 4"]
) -> UInt8[np.ndarray, "size size 4"]:
    """Two cut-out pictures at 0.6 of their size in one; the right one covers the left."""
    size = len(left)
    small = round(0.6 * size)
    canvas = PIL.Image.new("RGBA", (size, size))
    top = (size - small) // 2
    for image, column in ((left, 0), (right, size - small)):
        shrunk = PIL.Image.fromarray(image).resize((small, small), PIL.Image.Resampling.BOX)
        canvas.alpha_composite(shrunk, (column, top))
    return np.asarray(canvas)


def _names(parts: Sequence[CaptionParts]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in (part.noun, *part.synonyms)))


def captions_of(
    parts: Sequence[CaptionParts],
    azimuth: Float[np.ndarray, "n"],
    elevation: Float[np.ndarray, "n"],
    seed: int,
) -> list[list[str]]:
    """CAPTIONS captions of each picture. Empty ones are drawn with each batch.

    Both sets of view words occur, so that a prompt may use the paper's or the finer ones; the finer
    ones twice as often, as there is more to learn from them.
    """
    fine = fine_view_index(jnp.asarray(azimuth), jnp.asarray(elevation))
    views = view_words(azimuth, elevation), [FINE_WORDS[i] for i in np.asarray(fine)]
    rng = np.random.default_rng(seed)
    return [
        [sample_caption(rng, part, views[min(k % 3, 1)][i]) for k in range(CAPTIONS)]
        for i, part in enumerate(parts)
    ]


def _check_nouns(nouns: Sequence[str], known: Sequence[str]) -> None:
    unknown = [noun for noun in nouns if noun not in known]
    if unknown:
        raise UserError(
            f"config.data.nouns has {unknown[0]!r}, which the data do not have; "
            f"choose from {', '.join(known)}"
        )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
