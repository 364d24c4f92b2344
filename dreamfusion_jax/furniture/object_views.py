"""The shipped library of object views, and the ground truth for evaluation.

Reading needs no extra. `furniture/assets/object_views/` has `index.json` and one WebP
sprite sheet of 12x12 views per noun; `furniture/assets/ground_truth/` has `index.json`, one sheet
of 4x4 unseen views per noun and `points.npz`. Both are made by

    python -m dreamfusion_jax.furniture.object_views --source=sweethome3d-furniture_1.8-1_all.deb

(needs the `[data]` extra; `apt-get download sweethome3d-furniture` fetches the package).
"""

import dataclasses
import functools
import pathlib

import numpy as np
from jaxtyping import Float, Float32, UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.shipped import ASSETS, asset_folder
from dreamfusion_jax.io import read_image, read_json
from dreamfusion_jax.types import CameraLight

OBJECT_VIEWS = ASSETS / "object_views"
SIZE = 128


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectViews:
    """Views of objects, all looking at the origin.

    `rgba` has straight alpha; angles are in radians, `distance` in object diagonals,
    `focal` in image widths. `synonyms` and `colors` ("" where none is clear) by noun.
    """

    nouns: tuple[str, ...]
    rgba: UInt8[np.ndarray, "nouns views size size 4"]
    azimuth: Float32[np.ndarray, "nouns views"]
    elevation: Float32[np.ndarray, "nouns views"]
    distance: float
    focal: float
    synonyms: dict[str, tuple[str, ...]]
    colors: dict[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class GroundTruth:
    """Views of one object that are not in the library, and points on its true surface."""

    noun: str
    rgba: UInt8[np.ndarray, "views size size 4"]
    azimuth: Float32[np.ndarray, "views"]
    elevation: Float32[np.ndarray, "views"]
    distance: float
    focal: float
    light: CameraLight
    points: Float32[np.ndarray, "points 3"]


def nouns(folder: str | pathlib.Path | None = None) -> tuple[str, ...]:
    """Return the nouns of the library."""
    return tuple(entry["noun"] for entry in read_index(folder or OBJECT_VIEWS)["objects"])


def load_object_views(
    folder: str | pathlib.Path | None = None,
    nouns: tuple[str, ...] | list[str] | None = None,
    size: int = SIZE,
) -> ObjectViews:
    """Return the views of all nouns, or of some (about 9.4 MB of memory each, at their own size).

    Args:
      folder: of the library; by default the shipped one.
      nouns: which ones; by default all.
      size: pixels a side, a divisor of SIZE.

    Raises:
      UserError: the folder is no library, or a noun is not in it.
    """
    folder = pathlib.Path(folder or OBJECT_VIEWS)
    index = read_index(folder)
    entries = {entry["noun"]: entry for entry in index["objects"]}
    chosen = tuple(entries) if nouns is None else tuple(nouns)
    for noun in chosen:
        _check_known(noun, entries, folder)
    sheets = [shrink(read_sheet(folder / entries[noun]["file"]), size) for noun in chosen]
    return ObjectViews(
        nouns=chosen,
        rgba=np.stack(sheets) if sheets else np.zeros((0, 0, size, size, 4), np.uint8),
        azimuth=np.array([entries[noun]["azimuth"] for noun in chosen], np.float32),
        elevation=np.array([entries[noun]["elevation"] for noun in chosen], np.float32),
        distance=index["distance"],
        focal=index["focal"],
        synonyms={noun: tuple(entries[noun]["synonyms"]) for noun in chosen},
        colors={noun: entries[noun]["color"] for noun in chosen},
    )


def load_ground_truth(noun: str, folder: str | pathlib.Path | None = None) -> GroundTruth:
    """Return the ground truth of one noun: 8 azimuths at 15 degrees of elevation, then 8 at 30.

    Raises:
      UserError: the noun is not in the library, or the true objects are not there.
    """
    folder = pathlib.Path(folder or asset_folder("ground_truth"))
    index = read_index(folder)
    _check_known(noun, index["files"], folder)
    with np.load(folder / "points.npz") as points:
        surface = points[noun].astype(np.float32) / index["points_per_unit"]
    return GroundTruth(
        noun=noun,
        rgba=read_sheet(folder / index["files"][noun]),
        azimuth=np.array(index["azimuth"], np.float32),
        elevation=np.array(index["elevation"], np.float32),
        distance=index["distance"],
        focal=index["focal"],
        light=CameraLight(**index["light"]),
        points=surface,
    )


def read_index(folder: str | pathlib.Path) -> dict:
    """Return the parsed `index.json` of a folder. Raises UserError where it cannot be read."""
    path = pathlib.Path(folder) / "index.json"
    try:
        return _parse(path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no library of views: index.json is missing or damaged; install the "
            "package again or make one with `python -m dreamfusion_jax.furniture.object_views`."
        ) from error


@functools.lru_cache(maxsize=4)
def _parse(path: pathlib.Path, modified: int) -> dict:
    del modified  # part of the cache's key
    return read_json(path)


def read_sheet(path: pathlib.Path) -> UInt8[np.ndarray, "views size size 4"]:
    """Cut a sprite sheet into its views, row by row."""
    try:
        sheet = read_image(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The pictures in {path} are missing or damaged: install the package again."
        ) from error
    rows, columns = sheet.shape[0] // SIZE, sheet.shape[1] // SIZE
    cut = sheet.reshape(rows, SIZE, columns, SIZE, 4).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(cut.reshape(rows * columns, SIZE, SIZE, 4))


def shrink(
    rgba: UInt8[np.ndarray, "views full full 4"], size: int
) -> UInt8[np.ndarray, "views size size 4"]:
    """Average straight-alpha pictures over pixel blocks, weighting colors by alpha."""
    if rgba.shape[1] == size:
        return rgba
    small = box_downsample(rgba.astype(np.float32) / 255, size)
    return np.rint(255 * small).astype(np.uint8)


def box_downsample(
    rgba: Float[np.ndarray, "n full full 4"], size: int
) -> Float[np.ndarray, "n size size 4"]:
    """Average straight-alpha pictures over pixel blocks, weighting colors by alpha."""
    factor = rgba.shape[1] // size
    layers = rgba * rgba[..., 3:]
    layers[..., 3] = rgba[..., 3]
    # Sums of strided rows and columns: several times as fast as the mean of a reshaped array.
    rows = np.add.reduce([layers[:, i::factor] for i in range(factor)])
    blocks = np.add.reduce([rows[:, :, i::factor] for i in range(factor)]) / factor**2
    blocks[..., :3] /= np.maximum(blocks[..., 3:], 1e-6)
    return np.clip(blocks, 0, 1, out=blocks)


def _check_known(noun: str, known, folder: pathlib.Path) -> None:
    if noun not in known:
        raise UserError(
            f"{noun!r} is not in the library {folder.name}, which knows: {', '.join(known)}."
        )


if __name__ == "__main__":
    from dreamfusion_jax.furniture.build_object_views import main

    main()
