"""Makes the shipped library of views and the ground truth: see `library`."""

import argparse
import json
import pathlib
import sys
import zlib
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture import object_views
from dreamfusion_jax.furniture.catalog import Entry, open_source
from dreamfusion_jax.furniture.chosen_objects import CHOICES, Choice
from dreamfusion_jax.furniture.colors import dominant_color
from dreamfusion_jax.furniture.shipped import ASSETS

DISTANCE = 1.5
FOCAL = 1.25
LIGHT = {"ambient": 0.7, "diffuse": 0.4, "right": 0.3, "up": 0.8}  # beside the camera
# Many views beat few sharp ones: a thin part is only learnt where the pictures show it from
# nearly the same side, and training averages over compression noise.
VIEWS_QUALITY = {"quality": 45, "alpha_quality": 40}
TRUTH_QUALITY = {"quality": 88, "alpha_quality": 100}
POINTS = 4096
POINTS_PER_UNIT = 8192  # resolution of the stored coordinates


def view_angles(noun: str, lower: int = 108, overhead: int = 36) -> Float[np.ndarray, "views 2"]:
    """Return azimuth and elevation (radians) of a noun's views, the same at every call.

    `lower` views have elevations in [-10, 60] degrees, `overhead` views in [60, 90]. In each
    group both angles are stratified: one view per bin, jittered, the bins paired at random.
    """
    rng = np.random.default_rng(zlib.crc32(noun.encode()))
    groups = []
    for count, low, high in ((lower, -10.0, 60.0), (overhead, 60.0, 90.0)):
        azimuth = 360 * (np.arange(count) + rng.random(count)) / count
        strata = (rng.permutation(count) + rng.random(count)) / count
        groups.append(np.stack([azimuth, low + (high - low) * strata], -1))
    return np.radians(np.concatenate(groups)).round(4)


def truth_views() -> Float[np.ndarray, "16 2"]:
    """Return azimuths 22.5, 67.5, ... at 15 and at 30 degrees of elevation, in radians."""
    azimuth = 22.5 + 45.0 * np.arange(8)
    return np.radians([(a, e) for e in (15.0, 30.0) for a in azimuth])


class ViewRenderer:
    """Photographs catalog entries from given angles."""

    def __init__(self):
        from dreamfusion_jax.evaluation.mesh_renderer import Renderer

        self._renderer = Renderer(object_views.SIZE)

    def show(self, entry: Entry, turn: float):
        """Put an object on the stage and returns it."""
        from dreamfusion_jax.furniture.objects import load_object

        obj = load_object(entry, np.radians(turn))
        self._renderer.show(obj)
        return obj

    def render(self, views: Float[np.ndarray, "views 2"]) -> UInt8[np.ndarray, "views size size 4"]:
        """Return one picture per (azimuth, elevation), lit from beside the camera."""
        from dreamfusion_jax.evaluation.mesh_renderer import look_at_origin

        shots = []
        for azimuth, elevation in views:
            position, rotation = look_at_origin(azimuth, elevation, DISTANCE)
            light = position + rotation @ np.array([LIGHT["right"], LIGHT["up"], 0.0])
            shade = {"ambient": LIGHT["ambient"], "diffuse": LIGHT["diffuse"]}
            shots.append(self._renderer.render(position, rotation, FOCAL, light=light, **shade))
        return np.stack(shots)


def write_sheet(
    path: pathlib.Path,
    views: UInt8[np.ndarray, "views size size 4"],
    *,
    quality: int,
    alpha_quality: int,
) -> None:
    """Return a square sprite sheet as WebP; qualities of color and alpha from 0 to 100."""
    side = int(np.sqrt(len(views)))
    sheet = views.reshape(side, side, object_views.SIZE, object_views.SIZE, 4).transpose(
        0, 2, 1, 3, 4
    )
    image = Image.fromarray(sheet.reshape(side * object_views.SIZE, side * object_views.SIZE, 4))
    image.save(path, "WEBP", quality=quality, method=6, alpha_quality=alpha_quality)


def build(
    source: str, folder: pathlib.Path, ground_truth: pathlib.Path, only: tuple[str, ...] = ()
) -> None:
    """Render the nouns `only` (default: all that the index lacks) and updates the indices."""
    entries = {entry.uid: entry for entry in open_source(source)}
    chosen = {choice.noun: choice for choice in CHOICES}
    for path in (folder, ground_truth):
        path.mkdir(parents=True, exist_ok=True)
    objects = {e["noun"]: e for e in _existing(folder).get("objects", [])}
    points = _existing_points(ground_truth)
    wanted = only or tuple(noun for noun in chosen if noun not in objects)
    if unknown := [noun for noun in wanted if noun not in chosen]:
        raise UserError(f"{unknown[0]!r} is not in chosen_objects.py; add a line for it there.")
    studio = ViewRenderer()
    try:
        for noun in tqdm(wanted, unit="object"):
            objects[noun], points[noun] = _add(studio, entries, chosen[noun], folder, ground_truth)
    finally:  # what is rendered is kept, also after Ctrl-C
        _write_indices(folder, ground_truth, [objects[n] for n in chosen if n in objects], points)


def _add(
    studio: ViewRenderer, entries, choice: Choice, folder, ground_truth
) -> tuple[dict, np.ndarray]:
    from dreamfusion_jax.furniture.objects import surface_points

    entry = entries[choice.uid]
    obj = studio.show(entry, choice.turn)
    views, file = view_angles(choice.noun), f"{choice.slug}.webp"
    shots = studio.render(views)
    write_sheet(folder / file, shots, **VIEWS_QUALITY)
    write_sheet(ground_truth / file, studio.render(truth_views()), **TRUTH_QUALITY)
    points = np.round(surface_points(obj, POINTS) * POINTS_PER_UNIT).astype(np.int16)
    record = {
        "noun": choice.noun,
        "synonyms": list(choice.synonyms),
        "color": dominant_color(shots),
        "file": file,
        "object": entry.uid,
        "name": entry.name,
        "category": entry.category,
        "creator": entry.creator,
        "license": entry.license,
        "azimuth": [float(v) for v in views[:, 0]],
        "elevation": [float(v) for v in views[:, 1]],
    }
    return record, points


def _write_indices(
    folder, ground_truth, objects: list[dict], points: dict[str, np.ndarray]
) -> None:
    before = {entry["file"] for entry in _existing(folder).get("objects", ())}
    camera = {"distance": DISTANCE, "focal": FOCAL, "size": object_views.SIZE, "light": LIGHT}
    _write_json(folder / "index.json", {**camera, "objects": objects})
    azimuth, elevation = truth_views().T.round(6).tolist()
    files = {entry["noun"]: entry["file"] for entry in objects}
    angles = {"azimuth": azimuth, "elevation": elevation, "points_per_unit": POINTS_PER_UNIT}
    _write_json(ground_truth / "index.json", {**camera, **angles, "files": files})
    arrays: dict[str, Any] = {noun: points[noun] for noun in files}
    np.savez_compressed(ground_truth / "points.npz", **arrays)
    for name in before - set(files.values()):  # of nouns that are no longer chosen
        (folder / name).unlink(missing_ok=True)
        (ground_truth / name).unlink(missing_ok=True)


def _write_json(path: pathlib.Path, content: dict) -> None:
    lines = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    path.write_text(lines.replace('{"noun"', '\n{"noun"') + "\n", encoding="utf-8")


def _existing(folder: pathlib.Path) -> dict:
    return object_views.read_index(folder) if (folder / "index.json").exists() else {}


def _existing_points(folder: pathlib.Path) -> dict[str, np.ndarray]:
    if not (folder / "points.npz").exists():
        return {}
    with np.load(folder / "points.npz") as stored:
        return dict(stored)


def main() -> None:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="the .deb file or its unpacked catalogs")
    parser.add_argument("--folder", type=pathlib.Path, default=object_views.OBJECT_VIEWS)
    parser.add_argument("--ground-truth", type=pathlib.Path, default=ASSETS / "ground_truth")
    parser.add_argument("--nouns", default="", help="comma separated; default: those missing")
    arguments = parser.parse_args()
    only = tuple(noun.strip() for noun in arguments.nouns.split(",") if noun.strip())
    try:
        build(arguments.source, arguments.folder, arguments.ground_truth, only)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
