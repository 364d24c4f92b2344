"""Pictures of the shipped meshes from the library's sides, made when they are first needed."""

import contextlib
import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.photographs import Look, photograph
from dreamfusion_jax.furniture.object_meshes import load_object_mesh
from dreamfusion_jax.furniture.object_views import OBJECT_VIEWS, read_index
from dreamfusion_jax.furniture.shipped import asset_folder
from dreamfusion_jax.io import cache_folder, write_bytes
from dreamfusion_jax.pretrained.embedding_cache import file_digest
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.types import Camera

_AWAY = 20.0  # of the light: its rays are nearly parallel
_SAMPLES = 512  # along an edge of a picture, as far as these are samples of its pixels
_VERSION = 1  # of what is kept: another one where pictures change


def object_pictures(
    noun: str, size: int, looks: Sequence[Look]
) -> UInt8[np.ndarray, "looks views size size 4"]:
    """Return an object's pictures in each look, from the cameras of the library's index.

    They are kept in the cache folder, where that can be written.

    Raises:
      UserError: the object's mesh is missing or damaged.
    """
    index = read_index(OBJECT_VIEWS)
    entry = next(entry for entry in index["objects"] if entry["noun"] == noun)
    stem = Path(entry["file"]).stem
    azimuth, elevation = (np.array(entry[name], np.float32) for name in ("azimuth", "elevation"))
    cameras = orbit_camera(azimuth, elevation, index["distance"], index["focal"])
    made_of = [_VERSION, size, *(index[name] for name in ("light", "distance", "focal"))]
    made_of += [entry["azimuth"], entry["elevation"], *map(dataclasses.astuple, looks)]
    with contextlib.suppress(OSError):  # it is said below that the mesh is missing
        made_of.append(file_digest(asset_folder("object_meshes") / f"{stem}.npz"))
    digest = hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]
    kept = cache_folder() / "pictures" / f"{stem}-{size}-{digest}.npz"
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with np.load(kept) as stored:
            return stored["pictures"]
    pictures = photograph(
        load_object_mesh(stem),
        cameras,
        light_positions(cameras, index["light"]),
        size,
        looks,
        supersampling=max(1, min(8, round(_SAMPLES / size))),
    )
    file = io.BytesIO()
    np.savez_compressed(file, pictures=pictures)
    with contextlib.suppress(UserError):
        write_bytes(kept, file.getvalue())
    return pictures


def light_positions(cameras: Camera, light: dict[str, float]) -> Float[np.ndarray, "views 3"]:
    """Return where the light of each view stands: far away, beside the camera."""
    rotation, position = np.asarray(cameras.rotation), np.asarray(cameras.position)
    beside = position + light["right"] * rotation[..., 0] + light["up"] * rotation[..., 1]
    return _AWAY * beside / np.linalg.norm(beside, axis=-1, keepdims=True)
