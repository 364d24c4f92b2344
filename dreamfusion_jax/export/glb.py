"""Meshes as GLB files that viewers show with the right side up and the right colours."""

import os

import numpy as np
import trimesh
from jaxtyping import Float

from dreamfusion_jax.export.files import write_bytes

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
