"""Textured triangles: what is drawn to compare with."""

import dataclasses

import numpy as np
from jaxtyping import Float32, Int64, UInt8


@dataclasses.dataclass(frozen=True)
class Part:
    """Triangles with one material. `color` and `texture` multiply, as in OBJ/MTL.

    A texture with four channels is cut out where its alpha is 0; it has no values between.
    """

    vertices: Float32[np.ndarray, "vertices 3"]
    faces: Int64[np.ndarray, "faces 3"]
    normals: Float32[np.ndarray, "vertices 3"]
    uv: Float32[np.ndarray, "vertices 2"] | None
    texture: UInt8[np.ndarray, "height width channels"] | None
    color: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Object3D:
    """A normalized object in the world frame. Every part is opaque."""

    parts: tuple[Part, ...]
