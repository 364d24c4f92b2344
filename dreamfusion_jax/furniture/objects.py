"""Loads a catalog entry as textured triangles in the world frame.

OBJ files have y up, the front at +z and x to the right; the world has z up and the front
at +x, so that (x, y, z) of the file becomes (z, x, y). Objects are normalized: the center
of the bounding box is the origin, its diagonal has length 1.

Glass is drawn opaque, and left out where it is all but invisible: the silhouette of an
object is then a sharp notion, for a radiance field as well as for scoring one.
"""

import dataclasses

import numpy as np
import trimesh
from jaxtyping import Num, UInt8

from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part
from dreamfusion_jax.furniture.catalog import Entry

INVISIBLE = 0.1  # materials of lower opacity are left out


def load_object(entry: Entry, turn: float = 0.0) -> Object3D:
    """Return the object of a catalog entry; `turn` (radians, counter-clockwise) mends its front."""
    scene = trimesh.load_scene(entry.model, process=False, group_material=True, split_object=False)
    meshes = [m for m in scene.dump() if isinstance(m, trimesh.Trimesh) and len(m.faces)]
    meshes = [m for m in meshes if _opacity(m) >= INVISIBLE] or meshes
    frame = np.reshape(entry.rotation, (3, 3))
    points = np.concatenate([m.vertices[np.unique(m.faces)] for m in meshes]) @ frame.T
    low, high = points.min(0), points.max(0)
    size = np.array([entry.width, entry.height, entry.depth])
    extent = high - low
    scale = np.where(extent > 1e-9 * extent.max(), size / np.maximum(extent, 1e-12), 1.0)
    scale = scale / np.linalg.norm(scale * extent)
    to_world = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    cos, sin = np.cos(turn), np.sin(turn)
    to_world = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ to_world
    linear = to_world @ np.diag(scale) @ frame
    offset = -to_world @ (scale * (low + high) / 2)
    return _recenter(tuple(_part(mesh, linear, offset) for mesh in meshes))


def _recenter(parts: tuple[Part, ...]) -> Object3D:
    """Normalize once more: a turned object has another bounding box."""
    points = np.concatenate([p.vertices[np.unique(p.faces)] for p in parts])
    low, high = points.min(0), points.max(0)
    diagonal = np.linalg.norm(high - low)
    return Object3D(
        tuple(
            dataclasses.replace(
                p, vertices=((p.vertices - (low + high) / 2) / diagonal).astype(np.float32)
            )
            for p in parts
        )
    )


def _part(mesh: trimesh.Trimesh, linear: np.ndarray, offset: np.ndarray) -> Part:
    normals = mesh.vertex_normals @ np.linalg.inv(linear)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    material = getattr(mesh.visual, "material", None)
    uv = getattr(mesh.visual, "uv", None)
    image = getattr(material, "image", None)
    diffuse = np.asarray(getattr(material, "diffuse", (255, 255, 255, 255)), np.float64) / 255
    return Part(
        vertices=(mesh.vertices @ linear.T + offset).astype(np.float32),
        faces=np.asarray(mesh.faces, np.int64),
        normals=(normals / np.maximum(length, 1e-12)).astype(np.float32),
        uv=None if uv is None or image is None else np.asarray(uv, np.float32),
        texture=None if uv is None or image is None else _pixels(image),
        color=(float(diffuse[0]), float(diffuse[1]), float(diffuse[2])),
    )


def _pixels(image) -> UInt8[np.ndarray, "height width channels"]:
    """RGB, or RGBA where some pixel is more transparent than opaque."""
    rgba = np.array(image.convert("RGBA"))
    rgba[..., 3] = np.where(rgba[..., 3] < 128, 0, 255)
    return np.ascontiguousarray(rgba[..., :3] if rgba[..., 3].all() else rgba)


def _opacity(mesh: trimesh.Trimesh) -> float:
    """Return the `d` of the mesh's MTL material, 1 where there is none."""
    material = getattr(mesh.visual, "material", None)
    return float(np.ravel((getattr(material, "kwargs", None) or {}).get("d", [1.0]))[0])


def surface_points(obj: Object3D, count: int, seed: int = 0) -> Num[np.ndarray, "count 3"]:
    """`count` points on the surface, uniform by area."""
    triangles = np.concatenate([p.vertices[p.faces] for p in obj.parts]).astype(np.float64)
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = np.linalg.norm(np.cross(first, second), axis=1)
    rng = np.random.default_rng(seed)
    pick = rng.choice(len(area), count, p=area / area.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))
    return (triangles[pick, 0] + u[:, None] * first[pick] + v[:, None] * second[pick]).astype(
        np.float32
    )
