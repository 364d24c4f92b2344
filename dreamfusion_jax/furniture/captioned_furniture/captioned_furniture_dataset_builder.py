"""TFDS builder of captioned views of textured 3D objects. Needs no TensorFlow.

Make it:  python -m dreamfusion_jax.furniture.captioned_furniture \
              --source=sweethome3d-furniture_1.8-1_all.deb --data_dir=DIR [--config=library]
Read it:  tfds.builder_from_directory(".../captioned_furniture/library/1.0.0")
              .as_data_source(split="train")          # random access, numpy dictionaries
"""

import dataclasses
import io
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.mesh_renderer import Renderer
from dreamfusion_jax.furniture.captioned_furniture.random_views import View, render_views, usable
from dreamfusion_jax.furniture.captions import CaptionParts, parts_of
from dreamfusion_jax.furniture.catalog import HOW_TO_GET, Entry, open_source
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.colors import dominant_color
from dreamfusion_jax.furniture.objects import load_object

SIZE = 64
HELD_OUT_VIEWS = 16  # every 16th view of an object
HELD_OUT_OBJECTS = 20  # about one object in 20, never one of the library
UNUSED_CATEGORIES = ("Doors and windows", "Staircases")


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
    """How many views of which objects.

    `nouns` selects objects by noun, by commas; "library" those of the shipped library, ""
    all usable ones.
    """

    views: int = 128
    nouns: str = ""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Captioned views of some 700 everyday objects, 64x64 with alpha.

    `source` is the .deb file or its unpacked catalogs; without it a .deb file is looked
    for in the manual download folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "sweethome3d-furniture 1.8, cameras of the DreamFusion paper."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"The data come from a Debian package: {HOW_TO_GET}."
    BUILDER_CONFIGS = [
        Config(name="all", description="all usable objects, 128 views each"),
        Config(name="library", views=96, nouns="library", description="the library's objects"),
    ]

    def __init__(self, *, source: str = "", **kwargs):
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        text, number = tfds.features.Text(), tfds.features.Scalar(np.float32)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 4), encoding_format="png"),
                    "object": text,
                    "noun": text,
                    "synonyms": text,  # joined by ", "
                    "category": text,
                    "color": text,
                    "creator": text,
                    "license": text,
                    "azimuth": number,
                    "elevation": number,
                    "distance": number,
                    "focal": number,
                    "position": tfds.features.Tensor(shape=(3,), dtype=np.float32),
                    "rotation": tfds.features.Tensor(shape=(3, 3), dtype=np.float32),
                    "light_position": tfds.features.Tensor(shape=(3,), dtype=np.float32),
                    "light_ambient": number,
                    "light_diffuse": number,
                }
            ),
            homepage="https://packages.debian.org/sweethome3d-furniture",
        )

    def _split_generators(self, dl_manager) -> dict:
        entries = self._entries(dl_manager)
        seen = [e for e in entries if not held_out(e)]
        unseen = [e for e in entries if held_out(e)]
        splits = {
            "train": self._generate_examples(seen, lambda i: i % HELD_OUT_VIEWS != 0),
            "heldout_views": self._generate_examples(seen, lambda i: i % HELD_OUT_VIEWS == 0),
        }
        if unseen:
            splits["heldout_objects"] = self._generate_examples(unseen, lambda i: True)
        return splits

    def _entries(self, dl_manager) -> list[Entry]:
        source = self._source
        if not source:
            found = sorted(dl_manager.manual_dir.glob("sweethome3d-furniture*.deb"))
            if not found:
                raise UserError(f"{dl_manager.manual_dir} has no furniture package: {HOW_TO_GET}.")
            source = str(found[-1])
        return select(open_source(source), self.builder_config.nouns)

    def _generate_examples(self, entries: list[Entry], keep) -> Iterator:
        renderer = Renderer(SIZE)
        for entry in entries:
            obj = load_object(entry, np.radians(_TURNS.get(entry.uid, 0.0)))
            if not usable(obj):
                continue
            count = self.builder_config.views
            views = render_views(renderer, obj, entry.uid, count, keep)
            color = dominant_color(np.stack([view.rgba for _, view in views]))
            for index, view in views:
                yield f"{entry.uid}:{index:04d}", example(entry, parts_of(entry, color), view)
        renderer.close()


_TURNS = {choice.uid: choice.turn for choice in CHOICES}


def held_out(entry: Entry) -> bool:
    """Return whether the object is kept from training; objects of the library never are."""
    return entry.uid not in _TURNS and zlib.crc32(entry.uid.encode()) % HELD_OUT_OBJECTS == 0


def select(entries: list[Entry], nouns: str) -> list[Entry]:
    """Return the entries that `Config.nouns` names. Raises UserError for an unknown noun."""
    usable_entries = [e for e in entries if e.category not in UNUSED_CATEGORIES]
    if not nouns:
        return usable_entries
    if nouns == "library":
        return [e for e in usable_entries if e.uid in _TURNS]
    wanted = {noun.strip() for noun in nouns.split(",")}
    chosen = [e for e in usable_entries if parts_of(e).noun in wanted]
    if missing := wanted - {parts_of(e).noun for e in chosen}:
        raise UserError(f"No object of the catalogs is called {sorted(missing)[0]!r}.")
    return chosen


def example(entry: Entry, parts: CaptionParts, view: View) -> dict:
    """Return one record; the image is handed over encoded, so that TensorFlow is not needed."""
    png = io.BytesIO()
    Image.fromarray(view.rgba).save(png, "PNG")
    png.seek(0)
    return {
        "image": png,
        "object": entry.uid,
        "noun": parts.noun,
        "synonyms": ", ".join(parts.synonyms),
        "category": parts.category,
        "color": parts.color,
        "creator": entry.creator,
        "license": entry.license,
        "azimuth": view.azimuth,
        "elevation": view.elevation,
        "distance": float(np.linalg.norm(view.position)),
        "focal": view.focal,
        "position": view.position,
        "rotation": view.rotation,
        "light_position": view.light_position,
        "light_ambient": view.ambient,
        "light_diffuse": view.diffuse,
    }
