"""Frozen pytrees handed between the stages of the program.

World frame: right-handed, z up, azimuth 0 is the front of the object (+x),
counter-clockwise; elevation is measured from the xy-plane. Angles in radians.
`*batch` stands for any number of leading dimensions.
"""

import dataclasses
from typing import TYPE_CHECKING

import flax.struct
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    Array = jax.Array
else:
    Array = jax.Array | np.ndarray  # on a device, or brought back from it


@flax.struct.dataclass
class Camera:
    """A pinhole camera.

    `rotation` has the camera's right, up and backward directions as columns, in
    world coordinates. `focal` is the focal length in image widths (lambda_focal of
    the paper). `azimuth` and `elevation` are those drawn before the position was
    perturbed: they choose the view-dependent prompt.
    """

    position: Float[Array, "*batch 3"]
    rotation: Float[Array, "*batch 3 3"]
    focal: Float[Array, "*batch"]
    azimuth: Float[Array, "*batch"]
    elevation: Float[Array, "*batch"]


@flax.struct.dataclass
class Light:
    """A point light. c = rho * (diffuse * max(0, n . l) + ambient), paper Eq. 7."""

    position: Float[Array, "*batch 3"]
    diffuse: Float[Array, "*batch"]
    ambient: Float[Array, "*batch"]
    textureless: Float[Array, "*batch"]  # 1 replaces the albedo by white, 0 keeps it


@dataclasses.dataclass(frozen=True)
class CameraLight:
    """Parallel light from beside the camera: so far to its right and above it.

    `ambient` and `diffuse` are the shares of the albedo as in the paper's Eq. 7.
    """

    ambient: float
    diffuse: float
    right: float
    up: float


@flax.struct.dataclass
class Rays:
    """Rays with unit directions, bounded to [near, far]; near == far misses the scene."""

    origins: Float[Array, "*batch 3"]
    directions: Float[Array, "*batch 3"]
    near: Float[Array, "*batch"]
    far: Float[Array, "*batch"]


@flax.struct.dataclass
class FieldOutput:
    """The field at points: density tau >= 0 per unit length, albedo rho in [0, 1].

    The first three channels of `albedo` are its color; a scene that is rendered as latents
    has a fourth.

    `normals` are unit vectors -grad tau / |grad tau| (zero where tau is flat), or
    None where they were not asked for.
    """

    density: Float[Array, "*batch"]
    albedo: Float[Array, "*batch channels"]
    normals: Float[Array, "*batch 3"] | None


@flax.struct.dataclass
class SurfaceMesh:
    """Triangles of a surface, with static sizes: what is not used is padded.

    `faces` are counterclockwise seen from outside; padded ones have three equal corners. `edges`
    are pairs of vertices, `edge_faces` the faces on their two sides: -1 where the surface ends,
    twice -1 in padding.
    """

    vertices: Float[Array, "*batch vertices 3"]
    faces: Int[Array, "*batch faces 3"]
    edges: Int[Array, "*batch edges 2"]
    edge_faces: Int[Array, "*batch edges 2"]


@flax.struct.dataclass
class RenderOutput:
    """One value per ray.

    `rgb` in [0, 1] (and a fourth channel, where there is one in the field's albedo) is
    shaded and composited over the background, `albedo` is the
    unlit color of the object alone (premultiplied by opacity), `opacity` in [0, 1],
    `depth` the expected distance along the ray (premultiplied by opacity), `normals`
    the expected normal (premultiplied by opacity), `orientation` the paper's
    orientation penalty sum_i w_i max(0, n_i . v)^2. Of a scene that is a surface, `surface` is the
    mesh that was rendered, and `distance` the signed distances in cells that it was made of.
    """

    rgb: Float[Array, "*batch channels"]
    albedo: Float[Array, "*batch channels"]
    opacity: Float[Array, "*batch"]
    depth: Float[Array, "*batch"]
    normals: Float[Array, "*batch 3"]
    orientation: Float[Array, "*batch"]
    surface: SurfaceMesh | None = None
    distance: Float[Array, "*scenes n n n"] | None = None


@flax.struct.dataclass
class Conditioning:
    """Encoded prompts, one row each: for tree maps, as priors may have more in it or less.

    `mask` is True where a token is present. `pooled` is one vector of a prompt and `cameras` are
    those of the views, where a prior reads such.
    """

    states: Float[Array, "*rows tokens width"]
    mask: Bool[Array, "*rows tokens"]
    pooled: Float[Array, "*rows channels"] | None = None
    cameras: Camera | None = None


@flax.struct.dataclass
class RenderedViews:
    """Rendered images as a guidance sees them, in the prior's range or as its latents.

    `scene` is the number of each image's scene among those that are optimized together.
    """

    image: Float[Array, "batch height width channels"]
    camera: Camera
    light: Light
    scene: Int[Array, "batch"]
