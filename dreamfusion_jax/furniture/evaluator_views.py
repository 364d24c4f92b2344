"""Pictures that the retrieval evaluator learns from and is checked with.

    python -m dreamfusion_jax.furniture.evaluator_views --out=DIR \
        --source=sweethome3d-furniture_1.8-1_all.deb

renders the library's objects, or with `--objects=all` every usable one of the catalogs (needs
the `[data]` extra), textured and textureless, from angles that no prior's pictures have. DIR
gets `views.npy` (uint8, straight alpha, read by memory mapping) and `index.json`.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.object_views import load_object_views
from dreamfusion_jax.io import read_json

SIZE = 64
DISTANCE, FOCAL = 1.5, 1.25  # objects have a diagonal of 1
HELD_OUT = 6  # views of an object, textured, and as many textureless
_OVERHEAD_SHARE = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatorViews:
    """Views of objects; arrays have one row for each picture. Angles in radians.

    `noun` counts in `nouns`; `textureless` pictures show white, shaded surfaces; `held_out`
    ones are not to be learnt from.
    """

    rgba: UInt8[np.ndarray, "n 64 64 4"]
    nouns: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    noun: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    textureless: np.ndarray
    held_out: np.ndarray


def load_evaluator_views(folder: str | pathlib.Path) -> EvaluatorViews:
    """Read what this module's command wrote.

    Raises:
      UserError: there is nothing, or it is damaged.
    """
    folder = pathlib.Path(folder)
    try:
        index = read_json(folder / "index.json")
        rgba = np.load(folder / "views.npy", mmap_mode="r")
        nouns = tuple(index["nouns"])
        synonyms = tuple(tuple(index["synonyms"].get(noun, ())) for noun in nouns)
        columns = {name: np.array(values) for name, values in index["views"].items()}
        return EvaluatorViews(rgba, nouns, synonyms, **columns)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder} holds no views for a retrieval evaluator: make them with "
            "`python -m dreamfusion_jax.furniture.evaluator_views`."
        ) from error


def shipped_views() -> EvaluatorViews:
    """Return the shipped pictures of the library, all textured, all to learn from."""
    library = load_object_views(size=SIZE)
    objects, per_object = library.rgba.shape[:2]
    flags = np.zeros(objects * per_object, bool)
    return EvaluatorViews(
        rgba=library.rgba.reshape(-1, SIZE, SIZE, 4),
        nouns=library.nouns,
        synonyms=tuple(library.synonyms[noun] for noun in library.nouns),
        noun=np.repeat(np.arange(objects), per_object),
        azimuth=library.azimuth.ravel(),
        elevation=library.elevation.ravel(),
        textureless=flags,
        held_out=flags,
    )


def select(views: EvaluatorViews, nouns: Sequence[str]) -> EvaluatorViews:
    """Return the views of some nouns; their pictures are read into memory.

    Raises UserError for a noun that has none.
    """
    missing = [noun for noun in nouns if noun not in views.nouns]
    if missing:
        raise UserError(
            f"the views for the retrieval evaluator have none of {missing[0]!r}: make them anew."
        )
    rows = np.flatnonzero(np.isin(views.noun, [views.nouns.index(noun) for noun in nouns]))
    position = {views.nouns.index(noun): i for i, noun in enumerate(nouns)}
    return EvaluatorViews(
        rgba=views.rgba[rows],
        nouns=tuple(nouns),
        synonyms=tuple(views.synonyms[views.nouns.index(noun)] for noun in nouns),
        noun=np.array([position[i] for i in views.noun[rows]]),
        azimuth=views.azimuth[rows],
        elevation=views.elevation[rows],
        textureless=views.textureless[rows],
        held_out=views.held_out[rows],
    )


def evaluator_angles(
    uid: str, count: int, held_out: bool
) -> tuple[Float[np.ndarray, "count"], Float[np.ndarray, "count"]]:
    """Return azimuth and elevation of an object's views, the same at every call.

    One view in five is from above (60 to 90 degrees), the others from -10 to 60 degrees; those
    held out from 0 to 45. Azimuths are stratified, one view in each equal sector.
    """
    rng = np.random.default_rng((zlib.crc32(uid.encode()), 7 + held_out))
    azimuth = 2 * np.pi * (rng.permutation(count) + rng.random(count)) / count
    elevation = rng.uniform(0, 45, count) if held_out else rng.uniform(-10, 60, count)
    overhead = (np.arange(count) < _OVERHEAD_SHARE * count) & (not held_out)
    elevation = np.where(overhead, rng.uniform(60, 90, count), elevation)
    return azimuth, np.radians(elevation)


def build(source: str, out: pathlib.Path, *, objects: str = "library", views: int = 96) -> None:
    """Render objects into `out`.

    Args:
      source: the .deb file or its unpacked catalogs.
      out: folder to write.
      objects: "library" or "all".
      views: to learn from, of an object: so many textured, and so many textureless.
    """
    from dreamfusion_jax.evaluation.mesh_renderer import Renderer
    from dreamfusion_jax.furniture.captioned_furniture import (
        captioned_furniture_dataset_builder as furniture,
    )
    from dreamfusion_jax.furniture.captioned_furniture.random_views import usable
    from dreamfusion_jax.furniture.captions import parts_of
    from dreamfusion_jax.furniture.catalog import open_source
    from dreamfusion_jax.furniture.objects import load_object

    out.mkdir(parents=True, exist_ok=True)
    turns = {choice.uid: choice.turn for choice in CHOICES}
    # "couch" is a synonym of the library's "sofa": one noun for both.
    canonical = {s: choice.noun for choice in CHOICES for s in choice.synonyms}
    canonical |= {choice.noun: choice.noun for choice in CHOICES}
    synonyms: dict[str, list[str]] = {c.noun: list(c.synonyms) for c in CHOICES}
    entries = furniture.select(open_source(source), "")
    if objects == "library":
        entries = [entry for entry in entries if entry.uid in turns]
    per_object = 2 * (views + HELD_OUT)
    shape = (len(entries) * per_object, SIZE, SIZE, 4)
    partial = out / "views.partial.npy"
    images = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
    names: list[str] = []
    columns: dict[str, list] = {"azimuth": [], "elevation": [], "textureless": [], "held_out": []}
    renderer = Renderer(SIZE)
    for entry in tqdm(entries, unit="object"):
        obj = load_object(entry, np.radians(turns.get(entry.uid, 0.0)))
        if not usable(obj):
            continue
        parts = parts_of(entry)
        noun = canonical.get(parts.noun, parts.noun)
        synonyms.setdefault(noun, [s for s in parts.synonyms if s not in canonical])
        for textureless in (False, True):
            renderer.show(obj, textureless=textureless)
            for held_out, count in ((False, views), (True, HELD_OUT)):
                angles = evaluator_angles(f"{entry.uid} {textureless}", count, held_out)
                for i, (azimuth, elevation) in enumerate(zip(*angles, strict=True)):
                    rng = np.random.default_rng((zlib.crc32(entry.uid.encode()), i, held_out))
                    images[len(names)] = _shoot(renderer, azimuth, elevation, textureless, rng)
                    names.append(noun)
                    columns["azimuth"].append(round(float(azimuth), 4))
                    columns["elevation"].append(round(float(elevation), 4))
                    columns["textureless"].append(textureless)
                    columns["held_out"].append(held_out)
    renderer.close()
    nouns = sorted(set(names))
    position = {noun: i for i, noun in enumerate(nouns)}
    columns["noun"] = [position[name] for name in names]
    kept = {noun: synonyms[noun] for noun in nouns}
    index = {"nouns": nouns, "synonyms": kept, "views": columns}
    (out / "index.json").write_text(json.dumps(index))
    np.save(out / "views.npy", images[: len(names)])
    partial.unlink()


def _shoot(renderer, azimuth: float, elevation: float, textureless: bool, rng) -> np.ndarray:
    from dreamfusion_jax.evaluation.mesh_renderer import look_at_origin

    position, rotation = look_at_origin(azimuth, elevation, DISTANCE)
    light = position + rotation @ np.array([*rng.normal(size=2) * 0.5, 0.0])
    ambient = rng.uniform(0.1, 0.4) if textureless else rng.uniform(0.6, 1.0)
    return renderer.render(
        position, rotation, FOCAL, light=light, ambient=ambient, diffuse=1.05 - ambient
    )


def main() -> None:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="the .deb file or its unpacked catalogs")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder to write")
    parser.add_argument("--objects", default="library", choices=("library", "all"))
    parser.add_argument("--views", default=96, type=int, help="to learn from, of an object")
    options = parser.parse_args()
    try:
        build(options.source, options.out, objects=options.objects, views=options.views)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
