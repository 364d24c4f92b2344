"""Meshes as GLB files that viewers show with the right side up and the right colours."""

import os

import numpy as np
import trimesh
from jaxtyping import Float

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.files import write_bytes
from dreamfusion_jax.export.images import to_uint8

# World (z up, front +x, right-hand side +y) -> glTF (y up, front +z).
WORLD_TO_GLTF = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)

_MATERIAL = {
    "name": "vertex colours",
    "doubleSided": True,
    "pbrMetallicRoughness": {
        "baseColorFactor": [1.0, 1.0, 1.0, 1.0],
        "metallicFactor": 0.0,
        "roughnessFactor": 1.0,
    },
}


def write_glb(mesh: trimesh.Trimesh, path: str | os.PathLike) -> None:
    """Writes a mesh in the world frame as a GLB file, replacing an older one at once.

    Raises:
      UserError: the file cannot be written.
    """
    write_bytes(path, glb_bytes(mesh))


def glb_bytes(mesh: trimesh.Trimesh) -> bytes:
    """A mesh in the world frame as the bytes of a GLB file.

    glTF wants linear vertex colours. Eight linear bits would band in the dark, so they
    are stored with sixteen; trimesh writes those only as a custom attribute, which
    becomes COLOR_0 in the file's header.
    """
    normals = mesh.vertex_normals @ WORLD_TO_GLTF[:3, :3].T
    turned = trimesh.Trimesh(
        trimesh.transform_points(mesh.vertices, WORLD_TO_GLTF),
        mesh.faces,
        vertex_normals=normals,
        process=False,
    )
    linear = _srgb_to_linear(np.asarray(mesh.visual.vertex_colors)[:, :3] / 255.0)
    colours = np.full((len(linear), 4), 65535, np.uint16)
    colours[:, :3] = np.rint(linear * 65535)
    turned.vertex_attributes["_linear_colour"] = colours
    return trimesh.exchange.gltf.export_glb(
        trimesh.Scene({"object": turned}), include_normals=True, tree_postprocessor=_finish
    )


def read_glb(path: str | os.PathLike) -> trimesh.Trimesh:
    """Reads a file of `write_glb` back into the world frame, with its sRGB vertex colours.

    Raises:
      UserError: the file is not such a GLB file.
    """
    try:
        with open(path, "rb") as file:
            scene = trimesh.load(file, file_type="glb", process=False)
        (mesh,) = scene.geometry.values()
        linear = mesh.visual.vertex_attributes["color"] / 65535
    except Exception as error:  # trimesh raises many kinds
        raise UserError(
            f"{path} is not a mesh of this program; write it again with `dreamfusion export`."
        ) from error
    return trimesh.Trimesh(
        trimesh.transform_points(mesh.vertices, WORLD_TO_GLTF.T),
        mesh.faces,
        vertex_normals=mesh.vertex_normals @ WORLD_TO_GLTF[:3, :3],
        vertex_colors=to_uint8(_linear_to_srgb(linear)),
        process=False,
    )


def _finish(tree: dict) -> None:
    tree["asset"]["generator"] = "dreamfusion_jax"
    tree["materials"] = [_MATERIAL]
    (primitive,) = tree["meshes"][0]["primitives"]
    primitive["material"] = 0
    attributes = primitive["attributes"]
    attributes["COLOR_0"] = attributes.pop("_linear_colour")
    tree["accessors"][attributes["COLOR_0"]]["normalized"] = True


def _srgb_to_linear(colour: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    # IEC 61966-2-1.
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(colour: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.where(
        colour <= 0.0031308, colour * 12.92, 1.055 * np.maximum(colour, 1e-9) ** (1 / 2.4) - 0.055
    )
