"""The shipped meshes of the objects: `furniture/assets/object_meshes/`, one file for each noun.

They are made by

    python -m dreamfusion_jax.furniture.object_meshes --source=sweethome3d-furniture_1.8-1_all.deb

(needs the `[data]` extra; `apt-get download sweethome3d-furniture` fetches the package). A file is
an .npz of small integers: places in 1 / 65535 of the object's diagonal and normals on an octahedron
as differences from vertex to vertex, corners of triangles as differences from the number of
vertices seen so far, pictures as WebP.
"""

import io
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8, UInt16
from PIL import Image

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part
from dreamfusion_jax.furniture.shipped import ASSETS, asset_folder
from dreamfusion_jax.scene.mesh.texture import octahedral

OBJECT_MESHES = ASSETS / "object_meshes"
_STEPS = 65535  # of a place along an axis, which has length 1


def load_object_mesh(slug: str, folder: str | pathlib.Path | None = None) -> Object3D:
    """Return a stored object, in the world frame with a diagonal of length 1.

    Raises:
      UserError: its file is missing or damaged.
    """
    path = pathlib.Path(folder or asset_folder("object_meshes")) / f"{slug}.npz"
    try:
        with np.load(path) as stored:
            return decoded(dict(stored))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"The mesh in {path} is missing or damaged: install the package again."
        ) from error


def encoded(
    obj: Object3D, picture: Callable[[UInt8[np.ndarray, "h w 3"]], bytes]
) -> dict[str, np.ndarray]:
    """Return the arrays of an object; `picture` compresses textures."""
    numbers = {name: np.zeros(len(obj.parts), np.int32) for name in ("vertices", "faces")}
    colors = np.zeros((len(obj.parts), 3), np.uint8)
    textures: list[np.ndarray] = []
    texture_of = np.full(len(obj.parts), -1, np.int16)
    places, normals, codes, uvs, ranges = [], [], [], [], []
    for i, part in enumerate(obj.parts):
        order, faces = _by_first_use(part)
        numbers["vertices"][i], numbers["faces"][i] = len(order), len(faces)
        places.append(np.rint((part.vertices[order] + 0.5) * _STEPS).clip(0, _STEPS))
        normals.append(np.rint(255 * np.asarray(octahedral(jnp.asarray(part.normals[order])))))
        codes.append(_codes(faces))
        colors[i] = np.rint(255 * np.array(part.color))
        if part.uv is not None and part.texture is not None:
            own = part.uv[order] - np.floor(part.uv[order].min(0))
            low, high = own.min(0), own.max(0)
            ranges.append([low, high])
            uvs.append(np.rint((own - low) / np.maximum(high - low, 1e-9) * _STEPS))
            texture_of[i] = len(textures)
            textures.append(np.frombuffer(picture(part.texture), np.uint8))
    arrays: dict[str, np.ndarray] = {
        "part_vertices": numbers["vertices"],
        "part_faces": numbers["faces"],
        "part_color": colors,
        "part_texture": texture_of,
        "places": _planes(_differences(np.concatenate(places).astype(np.uint16))),
        "normals": _differences(np.concatenate(normals).astype(np.uint8)),
        "faces": _planes(np.concatenate(codes).astype(np.uint16)),
    }
    if textures:
        arrays["uv"] = _planes(_differences(np.concatenate(uvs).astype(np.uint16)))
        arrays["uv_range"] = np.array(ranges, np.float32)
        arrays |= {f"texture_{i}": texture for i, texture in enumerate(textures)}
    return arrays


def decoded(arrays: dict[str, Any]) -> Object3D:
    """Return the object of arrays that `encoded` has made.

    Raises:
      KeyError, ValueError: they are none.
    """
    places = _sums(_from_planes(arrays["places"])).astype(np.float32) / _STEPS - 0.5
    normals = _from_octahedron(_sums(arrays["normals"]).astype(np.float32) / 255)
    codes = _from_planes(arrays["faces"])
    uv = _sums(_from_planes(arrays["uv"])).astype(np.float32) / _STEPS if "uv" in arrays else None
    parts, vertex, face, textured = [], 0, 0, 0
    for vertices, faces, color, texture in zip(
        *(arrays[f"part_{k}"] for k in ("vertices", "faces", "color", "texture")), strict=True
    ):
        own_uv = picture = None
        if texture >= 0 and uv is not None:
            low, high = arrays["uv_range"][texture]
            own_uv = low + uv[textured : textured + vertices] * (high - low)
            textured += vertices
            picture = np.array(Image.open(io.BytesIO(arrays[f"texture_{texture}"].tobytes())))
        parts.append(
            Part(
                vertices=places[vertex : vertex + vertices],
                faces=_corners(codes[face : face + faces]),
                normals=normals[vertex : vertex + vertices],
                uv=own_uv,
                texture=picture,
                color=tuple((color / 255).tolist()),
            )
        )
        vertex, face = vertex + vertices, face + faces
    return Object3D(tuple(parts))


def _by_first_use(part: Part) -> tuple[Int[np.ndarray, "used"], Int[np.ndarray, "faces 3"]]:
    """Return the vertices in the order in which faces need them, and the faces with their numbers.

    Vertices that have everything in common are one.
    """
    values = [np.rint(part.vertices * _STEPS), np.rint(part.normals * 127)]
    values += [] if part.uv is None else [np.rint(part.uv * 4096)]
    _, first, same = np.unique(
        np.concatenate(values, 1), axis=0, return_index=True, return_inverse=True
    )
    faces = first[same.reshape(-1)][part.faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    used, begins, index = np.unique(faces, return_index=True, return_inverse=True)
    order = np.argsort(begins)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return used[order], rank[index].reshape(-1, 3)


def _codes(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "faces 3"]:
    """Return, for each corner, the number of vertices seen before minus its own: 0 is a new one."""
    flat = faces.reshape(-1)
    before = np.concatenate([[0], np.maximum.accumulate(flat)[:-1] + 1]) if len(flat) else flat
    return (before - flat).reshape(faces.shape)


def _corners(codes: UInt16[np.ndarray, "faces 3"]) -> Int[np.ndarray, "faces 3"]:
    flat = codes.reshape(-1).astype(np.int64)
    before = np.cumsum(flat == 0) - (flat == 0)
    return (before - flat).reshape(codes.shape)


def _differences(values: np.ndarray) -> np.ndarray:
    """Return the first row, and of each other its difference from the one before, with overflow."""
    return np.concatenate([values[:1], values[1:] - values[:-1]])


def _sums(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values, axis=0, dtype=values.dtype)


def _planes(values: UInt16[np.ndarray, "n k"]) -> UInt8[np.ndarray, "2 k n"]:
    """Return high and low bytes apart, and columns one after the other: they compress better."""
    return np.ascontiguousarray(np.stack([values >> 8, values & 255]).astype(np.uint8).mT)


def _from_planes(planes: UInt8[np.ndarray, "2 k n"]) -> UInt16[np.ndarray, "n k"]:
    high, low = planes.astype(np.uint16)
    return (high << 8 | low).T


def _from_octahedron(places: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 3"]:
    """Return the directions of which `scene.mesh.texture.octahedral` gives the places."""
    u, v = (2 * places - 1).T
    z = 1 - np.abs(u) - np.abs(v)
    x = np.where(z >= 0, u, (1 - np.abs(v)) * np.where(u >= 0, 1, -1))
    y = np.where(z >= 0, v, (1 - np.abs(u)) * np.where(v >= 0, 1, -1))
    found = np.stack([x, y, z], 1)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    from dreamfusion_jax.furniture.build_object_meshes import main

    main()
