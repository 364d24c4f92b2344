"""Meshes as files that other programs show with the right side up, size and colors."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import write_bytes

# World (z up, front +x, right-hand side +y) -> glTF (y up, front +z).
WORLD_TO_GLTF = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
TEXTURED, SUFFIXES = (".glb", ".obj"), (".glb", ".obj", ".ply", ".stl")


def write_mesh(
    mesh: trimesh.Trimesh,
    path: str | os.PathLike,
    *,
    millimeters: float = 100.0,
    centered: bool = False,
) -> None:
    """Write a mesh in the world frame, by the ending of `path`; older files are replaced.

    Args:
      mesh: with a texture for .glb and .obj, with vertex colors for .ply; .stl has no colors.
      path: .glb (y up, front +z, as glTF asks) and .obj (the same, with .mtl and .png of its name
        beside it); .ply and .stl (z up, front +x).
      millimeters: length of the longest side in an .stl file, whose unit slicers take for them.
      centered: keep the mesh's origin. Else, but for .ply, it stands on the floor: its lowest point
        is at 0 (in .glb by the node's translation, its vertices are as they were).

    Raises:
      UserError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".glb":
        write_bytes(path, glb_bytes(mesh, centered=centered))
    elif suffix == ".obj":
        stem = path.stem.replace(" ", "_")
        *others, (_, text) = _obj_files(mesh if centered else _standing(mesh), stem).items()
        for name, data in others:
            write_bytes(path.with_name(name), data)
        write_bytes(path, text)
    elif suffix == ".ply":
        ply: Any = mesh.export(file_type="ply", vertex_normal=True)
        write_bytes(path, ply)
    elif suffix == ".stl":
        standing = mesh if centered else _standing(mesh)
        scaled = standing.vertices * (millimeters / mesh.extents.max())
        scaled = trimesh.Trimesh(scaled, mesh.faces, process=False)
        stl: Any = scaled.export(file_type="stl")
        write_bytes(path, stl)
    else:
        raise UserError(f"{path} must end in {', '.join(SUFFIXES)}.")


def size_in_file(mesh: trimesh.Trimesh, path: str | os.PathLike, millimeters: float = 100.0) -> str:
    """Return the size of what `write_mesh` writes, in the unit that readers of the file assume."""
    depth, width, height = mesh.extents  # x is the front
    scale, unit = 1.0, {".glb": " meters", ".stl": " mm"}.get(Path(path).suffix.lower(), "")
    if unit == " mm":
        scale = millimeters / max(mesh.extents)
    sides = (f"{scale * side:.3g}" for side in (width, depth, height))
    return f"{' x '.join(sides)}{unit} (width, depth, height)"


def glb_bytes(mesh: trimesh.Trimesh, *, centered: bool = False) -> bytes:
    """Return a textured mesh in the world frame as the bytes of a GLB file, see `write_mesh`."""
    scene = trimesh.Scene()
    up = 0.0 if centered else -mesh.bounds[0, 2]
    place = trimesh.transformations.translation_matrix([0.0, up, 0.0])
    scene.add_geometry(upright(mesh), "object", "object", transform=place)
    return trimesh.exchange.gltf.export_glb(
        scene,
        include_normals=True,
        tree_postprocessor=_name_generator,
    )


def read_glb(path: str | os.PathLike) -> trimesh.Trimesh:
    """Read a file of `write_mesh` back into the world frame.

    Raises:
      UserError: the file is not such a GLB file.
    """
    try:
        with open(path, "rb") as file:
            scene: Any = trimesh.load(file, file_type="glb", process=False)
        (mesh,) = scene.geometry.values()
        mesh.visual.material.baseColorTexture.load()
    except Exception as error:  # trimesh raises many kinds
        raise UserError(
            f"{path} is not a mesh of this program; write it again with `dreamfusion export`."
        ) from error
    return _turned(mesh, WORLD_TO_GLTF.T)


def _standing(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Return a copy whose lowest point is at z = 0."""
    moved = mesh.copy()
    moved.vertices = mesh.vertices - [0.0, 0.0, mesh.bounds[0, 2]]
    return moved


def upright(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Return a copy in glTF's frame: y up, front +z."""
    return _turned(mesh, WORLD_TO_GLTF)


def _turned(mesh: trimesh.Trimesh, turn: np.ndarray) -> trimesh.Trimesh:
    return trimesh.Trimesh(
        trimesh.transform_points(mesh.vertices, turn),
        mesh.faces,
        vertex_normals=mesh.vertex_normals @ turn[:3, :3].T,
        visual=mesh.visual,
        process=False,
    )


def _obj_files(mesh: trimesh.Trimesh, stem: str) -> dict[str, bytes]:
    """Return the contents of the .png, .mtl and .obj files by their names, in this order.

    Many readers stop at a space in the name of a material or file.
    """
    turned = upright(mesh)
    visual: Any = turned.visual
    turned.visual = visual = visual.copy()
    visual.material = trimesh.visual.material.SimpleMaterial(
        image=visual.material.baseColorTexture,
        diffuse=(255, 255, 255, 255),
        ambient=(0, 0, 0, 255),
        specular=(0, 0, 0, 255),
        name=stem,
    )
    text, files = trimesh.exchange.obj.export_obj(
        turned, include_normals=True, return_texture=True, mtl_name=f"{stem}.mtl", header=None
    )
    ordered = sorted(files, key=lambda name: not name.endswith(".png"))
    return {name: files[name] for name in ordered} | {f"{stem}.obj": text.encode()}


def _name_generator(tree: dict) -> None:
    tree["asset"]["generator"] = "dreamfusion_jax"
