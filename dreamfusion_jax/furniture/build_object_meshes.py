"""Makes the shipped meshes of the objects: see `object_meshes`."""

import argparse
import dataclasses
import io
import math
import pathlib
import sys
import zipfile

import fast_simplification
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.spatial import cKDTree
from tqdm import tqdm

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part
from dreamfusion_jax.furniture.catalog import open_source
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.object_meshes import OBJECT_MESHES, encoded
from dreamfusion_jax.furniture.objects import load_object

TRIANGLES = 20_000  # of an object; those that have more are simplified
_FEW = 400  # triangles of a part that stay as they are
_TEXELS = 256  # of the longer side of a texture
_QUALITY = 80
_AREA_CHANGE = 0.03
_NEIGHBORS = 8
_SAME_CHART = 0.05  # texture coordinates within one piece of a picture
_TEXELS_PER_EDGE = (3.0, 4.5, 7.0, 10.0, 15.0)  # where a texture has holes: the first that fits


def simplified(obj: Object3D, triangles: int = TRIANGLES) -> Object3D:
    """Return the object with about so many triangles, its parts each with their share."""
    obj = Object3D(tuple(_cut_out(part) for part in obj.parts))
    counts = np.array([len(part.faces) for part in obj.parts])
    if counts.sum() <= triangles:
        return obj
    small = np.minimum(counts, _FEW)
    share = min(1.0, max(triangles - small.sum(), 0) / max((counts - small).sum(), 1))
    targets = small + np.ceil(share * (counts - small)).astype(int)
    parts = zip(obj.parts, targets, strict=True)
    return Object3D(tuple(_simplified(part, int(target)) for part, target in parts))


def _simplified(part: Part, target: int) -> Part:
    """Return a part with about so many triangles, or more where its area would change by those."""
    used, welded = np.unique(part.vertices, axis=0, return_inverse=True)
    welded = welded.reshape(-1)[part.faces].astype(np.int32)
    while target < len(part.faces):
        vertices, faces = fast_simplification.simplify(used, welded, target_count=target, agg=3)
        if len(faces) and abs(_area(vertices, faces) / _area(used, welded) - 1) < _AREA_CHANGE:
            return _with_attributes(part, vertices[faces])
        target *= 2
    return part


def _area(vertices: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "m 3"]) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) + 1e-12


def _with_attributes(part: Part, corners: Float[np.ndarray, "faces 3 3"]) -> Part:
    """Return triangles with the normals and texture coordinates of old vertices nearby.

    Of those in the same place, but of different faces, the one whose normal is nearest to that of
    the triangle; of texture coordinates a mean over the neighbors in the same piece.
    """
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-20)
    facing, places = np.repeat(facing, 3, axis=0), corners.reshape(-1, 3)
    used = np.unique(part.faces)
    count = min(_NEIGHBORS, len(used))
    distance, near = cKDTree(part.vertices[used]).query(places, count)
    near, distance = used[near.reshape(-1, count)], distance.reshape(-1, count)
    alike = np.einsum("nkc,nc->nk", part.normals[near], facing)
    close = distance <= distance[:, :1] * 1.5 + 1e-6
    best = np.argmax(np.where(close, alike, -2), axis=1)
    chosen = near[np.arange(len(near)), best]
    uv = None
    if part.uv is not None:
        apart = np.abs(part.uv[near] - part.uv[chosen][:, None]).max(-1)
        weight = (apart < _SAME_CHART) / np.maximum(distance, 1e-6) ** 2
        weight[np.arange(len(weight)), best] += 1e-9
        weight /= weight.sum(1, keepdims=True)
        uv = np.einsum("nk,nkc->nc", weight, part.uv[near]).astype(np.float32)
    return dataclasses.replace(
        part,
        vertices=places.astype(np.float32),
        faces=np.arange(len(places)).reshape(-1, 3),
        normals=part.normals[chosen],
        uv=uv,
    )


def _cut_out(part: Part) -> Part:
    """Return a part whose texture has no holes: the mesh has them, triangles are cut for it."""
    if part.texture is None or part.texture.shape[-1] != 4:
        return part
    assert part.uv is not None
    values = np.concatenate([part.vertices, part.normals, part.uv], 1)
    for texels in _TEXELS_PER_EDGE:
        cut, faces = _cut(part.texture, values, part.faces, texels)
        kept = faces[_alpha(part.texture, cut[faces, 6:].mean(1)) > 127]
        if len(kept) <= TRIANGLES:
            break
    return Part(
        vertices=cut[:, :3].astype(np.float32),
        faces=kept if len(kept) else faces[:1],
        normals=cut[:, 3:6].astype(np.float32),
        uv=cut[:, 6:].astype(np.float32),
        texture=_filled(part.texture),
        color=part.color,
    )


def _cut(
    texture: UInt8[np.ndarray, "h w 4"],
    values: Float[np.ndarray, "vertices 8"],
    faces: Int[np.ndarray, "faces 3"],
    texels: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut triangles that are partly open until none of their sides is longer than some texels."""
    height, width = texture.shape[:2]
    while True:
        scaled = values[:, 6:] * np.array([width, height]) / max(height, width) * _TEXELS
        sides = [scaled[faces[:, i]] - scaled[faces[:, i - 1]] for i in range(3)]
        size = np.abs(sides).max((0, 2))
        split = _is_mixed(texture, values[:, 6:], faces) & (size > texels)
        if not split.any():
            return values, faces
        values, faces = _quartered(values, faces, split)


def _alpha(texture: UInt8[np.ndarray, "h w 4"], uv: Float[np.ndarray, "*n 2"]) -> np.ndarray:
    height, width = texture.shape[:2]
    column = np.floor(uv[..., 0] * width).astype(int) % width
    row = np.floor((1 - uv[..., 1]) * height).astype(int) % height
    return texture[row, column, 3]


def _is_mixed(texture: np.ndarray, uv: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return which triangles have opaque and open places, by samples within them."""
    steps = [(i / 8, j / 8) for i in range(9) for j in range(9 - i)]
    a, b, c = (uv[faces[:, k]] for k in range(3))
    seen = np.stack([_alpha(texture, a + u * (b - a) + v * (c - a)) > 127 for u, v in steps])
    return np.any(seen, 0) & ~np.all(seen, 0)


def _quartered(
    values: np.ndarray, faces: np.ndarray, split: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut triangles into four each, with vertices of their own: what is beside them stays."""
    corners = values[faces[split]]
    middles = (corners + np.roll(corners, -1, axis=1)) / 2
    added = np.concatenate([corners, middles], 1)  # a b c ab bc ca
    numbers = len(values) + 6 * np.arange(len(added))[:, None]
    inner = [numbers + np.array(t) for t in ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))]
    values = np.concatenate([values, added.reshape(-1, values.shape[1])])
    return values, np.concatenate([faces[~split], *inner])


def _filled(texture: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return a texture's colors, with the mean of the opaque ones in its holes."""
    solid = texture[..., 3] > 127
    mean = texture[solid][:, :3].mean(0) if solid.any() else np.full(3, 128)
    return np.where(solid[..., None], texture[..., :3], mean).astype(np.uint8)


def _webp(texture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    image = Image.fromarray(texture)
    scale = min(1.0, _TEXELS / max(image.size))
    # Powers of 2 have smaller copies of half their size each.
    size = [2 ** round(math.log2(max(side * scale, 1))) for side in image.size]
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BOX).save(file, "WEBP", quality=_QUALITY, method=6)
    return file.getvalue()


def write(path: pathlib.Path, obj: Object3D) -> None:
    """Write an object as `object_meshes.load_object_mesh` reads it."""
    arrays = encoded(obj, _webp)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, array)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, file.getvalue(), zipfile.ZIP_LZMA)


def build(source: str, folder: pathlib.Path, only: tuple[str, ...] = ()) -> None:
    """Write the meshes of the nouns `only` (default: all)."""
    entries = {entry.uid: entry for entry in open_source(source)}
    chosen = {choice.noun: choice for choice in CHOICES}
    if unknown := [noun for noun in only if noun not in chosen]:
        raise UserError(f"{unknown[0]!r} is not in chosen_objects.py; add a line for it there.")
    folder.mkdir(parents=True, exist_ok=True)
    for noun in tqdm(only or tuple(chosen), unit="object"):
        choice = chosen[noun]
        obj = simplified(load_object(entries[choice.uid], np.radians(choice.turn)))
        write(folder / f"{choice.slug}.npz", obj)


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="the .deb file or its unpacked catalogs")
    parser.add_argument("--folder", type=pathlib.Path, default=OBJECT_MESHES)
    parser.add_argument("--nouns", default="", help="comma separated; default: all")
    arguments = parser.parse_args()
    only = tuple(noun.strip() for noun in arguments.nouns.split(",") if noun.strip())
    try:
        build(arguments.source, arguments.folder, only)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
