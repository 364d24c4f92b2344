r"""All objects of the catalogs, packed for training: one sprite sheet of views each.

    python -m dreamfusion_jax.furniture.packed --out=DIR \
        --source=sweethome3d-furniture_1.8-1_all.deb

needs the `[data]` extra; reading a pack needs numpy and Pillow only, and its 20 MB travel to an
accelerator. Views are taken as the shipped ones (`build_object_views`). Objects that a TFDS build
would hold out are in it too: what is held out here are the views of `assets/ground_truth`.
"""

import argparse
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np
from tqdm import tqdm

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.build_object_views import (
    VIEWS_QUALITY,
    ViewRenderer,
    view_angles,
    write_sheet,
)
from dreamfusion_jax.furniture.catalog import open_source
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.colors import dominant_color
from dreamfusion_jax.io import read_json

LOWER, OVERHEAD = 60, 21  # views of an object: 9 x 9


def is_pack(folder: str | os.PathLike) -> bool:
    """Return whether a folder has the form of a pack."""
    return (pathlib.Path(folder) / "pack.json").is_file()


def read_pack(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the objects of a pack: noun, synonyms, color, file, azimuth, elevation (radians), ...

    Raises:
      UserError: there is no pack, or it is damaged.
    """
    try:
        return read_json(pathlib.Path(folder) / "pack.json")["objects"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no pack of objects that can be read: {error}.") from error


def made_of(source: pathlib.Path) -> pathlib.Path:
    """Return the pack of a .deb file, which is made beside it if it is not there yet."""
    folder = source.with_name(source.stem + "_pack")
    if not is_pack(folder):
        try:
            build(str(source), folder)
        except ImportError as error:
            raise UserError(
                "rendering needs more packages: pip install 'dreamfusion_jax[data]'"
            ) from error
    return folder


def build(source: str, folder: pathlib.Path, most: int | None = None) -> None:
    """Render the objects (at most some, for a trial); the index is written last.

    What an interrupted build has rendered is kept.
    """
    from dreamfusion_jax.furniture.captioned_furniture import (
        captioned_furniture_dataset_builder as furniture,
    )
    from dreamfusion_jax.furniture.captioned_furniture.random_views import usable
    from dreamfusion_jax.furniture.captions import parts_of

    folder.mkdir(parents=True, exist_ok=True)
    turns = {choice.uid: choice.turn for choice in CHOICES}
    studio, objects = ViewRenderer(), []
    for entry in tqdm(furniture.select(open_source(source), "")[:most], unit="object"):
        file = folder / (entry.uid.replace("/", "_") + ".webp")
        record = file.with_suffix(".json")
        if not record.is_file():
            obj = studio.show(entry, turns.get(entry.uid, 0.0))
            if not usable(obj):
                continue
            views = view_angles(entry.uid, LOWER, OVERHEAD)
            shots = studio.render(views)
            write_sheet(file, shots, **VIEWS_QUALITY)
            parts = parts_of(entry, dominant_color(shots))
            about = {
                "object": entry.uid,
                "noun": parts.noun,
                "synonyms": list(parts.synonyms),
                "color": parts.color,
                "category": parts.category,
                "creator": entry.creator,
                "license": entry.license,
                "file": file.name,
                "azimuth": np.round(views[:, 0], 4).tolist(),
                "elevation": np.round(views[:, 1], 4).tolist(),
            }
            record.write_text(json.dumps(about))
        objects.append(read_json(record))
    (folder / "pack.json").write_text(json.dumps({"objects": objects}, separators=(",", ":")))
    for entry in objects:
        (folder / entry["file"]).with_suffix(".json").unlink(missing_ok=True)


def main() -> None:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="the .deb file or its unpacked catalogs")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder to write")
    parser.add_argument("--most", type=int, help="only so many objects, for a trial")
    options = parser.parse_args()
    try:
        build(options.source, options.out, options.most)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
