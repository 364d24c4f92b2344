"""The scene as a sphere that is pulled into shape, with a texture and a normal map: CLIP-Mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax import registry
from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.background import Background, FlatColor
from dreamfusion_jax.scene.base import FINISHED, Scene, Step, scene_of_parts
from dreamfusion_jax.scene.mesh import subdivision
from dreamfusion_jax.scene.mesh.drawing import draw_mesh, over_background, unit
from dreamfusion_jax.scene.mesh.rasterizer import dot, in_camera, project
from dreamfusion_jax.scene.mesh.texture import blurred, look_up, octahedral
from dreamfusion_jax.scene.mesh.topology import edges_of
from dreamfusion_jax.types import Camera, FieldOutput, Light, RenderOutput, SurfaceMesh

_BLUR_WIDTH = 5  # texels
_DENSE = 100.0  # the density inside, per radius of the scene


@register("scene", "sphere")
@dataclasses.dataclass(frozen=True)
class SphereScene(Scene):
    """A sphere's control mesh, the limit of its Loop subdivision, and two pictures on it.

    As in CLIP-Mesh (Khalid et al. 2022, section 3): the vertices of the control mesh, a texture and
    a normal map are optimized. The control mesh is an icosahedron with `halvings` of its edges; the
    surface is subdivided `subdivisions` times before its vertices are put where subdivision ends.
    Pictures of `texture_size` texels a side lie on an octahedron around the sphere, and are blurred
    by `blur_std` texels, over 5. At first the sphere has `sphere` of the scene's radius, and its
    texture is noise.
    """

    background: Background = FlatColor()
    radius: float = 1.4
    halvings: int = 3
    subdivisions: int = 0
    sphere: float = 0.5
    texture_size: int = 512
    blur_std: float = 3.0

    def __post_init__(self):
        check_within(
            self,
            radius=(1e-3, 1e3),
            halvings=(0, 6),
            subdivisions=(0, 3),
            sphere=(0.05, 0.95),
            texture_size=(2, 8192),
            blur_std=(0, 100),
        )
        if self.texture_size & (self.texture_size - 1):
            raise ValueError(f"texture_size is {self.texture_size}; it must be a power of 2.")

    @classmethod
    def from_config(cls, config: registry.Keys) -> "SphereScene":
        """Return the scene of `config.scene`; `space` says what its pixels are.

        Raises:
          UserError: a value makes no sense.
        """
        return scene_of_parts(cls, config, ("background",))

    @property
    def channels(self) -> int:
        """Those of the background."""
        return self.background.channels

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Return {"vertices": control mesh, "texture", "normal_map", "background"}."""
        texture_key, background_key = jax.random.split(key)
        size = self.texture_size
        return {
            "vertices": self.sphere * self.radius * jnp.asarray(self._template.control),
            "texture": jax.random.uniform(texture_key, (size, size, self.channels)),
            "normal_map": jnp.zeros((size, size, 3)).at[..., 2].set(1.0),
            "background": self.background.init(background_key),
        }

    @property
    def _template(self) -> subdivision.Sphere:
        return subdivision.sphere(self.halvings, self.subdivisions)

    def surface(self, params: dict[str, Any]) -> SurfaceMesh:
        """Return the surface in the world frame."""
        surface = self._template.surface
        edges, edge_faces = _edges(self.halvings, self.subdivisions)
        vertices = surface.of(params["vertices"])
        return SurfaceMesh(vertices, *(jnp.asarray(x) for x in (surface.faces, edges, edge_faces)))

    def draw(
        self,
        params: dict[str, Any],
        cameras: Camera,
        lights: Light,
        *,
        image_size: int,
        step: Step = FINISHED,
    ) -> RenderOutput:
        """Return views over black, see `Scene`."""
        mesh = self.surface(params)
        directions = jnp.asarray(_directions(self.halvings, self.subdivisions))
        texture, normal_map = self._pictures(params)
        maps = jnp.concatenate([texture, normal_map], axis=-1)
        texels = _texels(mesh, cameras, image_size, self.texture_size)

        def look(points, normals, direction, fragments):
            covered = jax.vmap(lambda t, face: t[jnp.maximum(face, 0)])(texels, fragments.face)
            found = look_up(maps, octahedral(direction).reshape(-1, 2), covered.reshape(-1))
            found = found.reshape(*points.shape[:-1], -1)
            albedo, bump = found[..., : self.channels], found[..., self.channels :]
            bent = _bent(normals, bump)
            return FieldOutput(jnp.ones(points.shape[:-1]), albedo, bent)

        return draw_mesh(mesh, look, cameras, lights, image_size, directions)

    def _pictures(self, params: dict[str, Any]) -> tuple[Array, Array]:
        """Return the texture in [0, 1] and the normal map in [-1, 1], blurred."""
        bounds = (("texture", 0.0), ("normal_map", -1.0))
        clipped = (_clipped(params[name], low, 1.0) for name, low in bounds)
        texture, normal_map = (blurred(x, self.blur_std, _BLUR_WIDTH) for x in clipped)
        return texture, normal_map

    def render(
        self,
        params: dict[str, Any],
        cameras: Camera,
        lights: Light,
        keys: Key[Array, "views"],
        step: Step,
        *,
        image_size: int,
        state: Any = None,
    ) -> RenderOutput:
        """Return training views, see `Scene`; the key of a view draws its background."""
        views = self.draw(params, cameras, lights, image_size=image_size, step=step)
        behind = self.background, params["background"]
        return over_background(views, *behind, cameras, keys, self.radius)

    def at_points(
        self, params: dict[str, Any], points: Float[Array, "points 3"], step: Step = FINISHED
    ) -> FieldOutput:
        """Return the color of the nearest place of the surface; dense is what lies behind it."""
        mesh = self.surface(params)
        rings = jnp.asarray(_rings(self.halvings, self.subdivisions))
        face, weights, inside = _nearest(mesh, rings, points)
        directions = jnp.asarray(_directions(self.halvings, self.subdivisions))
        corners = directions[mesh.faces[face]]
        direction = jnp.sum(weights[..., None] * corners, axis=-2)
        texture, _ = self._pictures(params)
        albedo = look_up(texture, octahedral(direction), jnp.ones(len(points)))
        return FieldOutput(inside * (_DENSE / self.radius), albedo, None)


@functools.lru_cache(maxsize=4)
def _edges(halvings: int, subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    return edges_of(subdivision.sphere(halvings, subdivisions).surface.faces)


@functools.lru_cache(maxsize=4)
def _directions(halvings: int, subdivisions: int) -> Float[np.ndarray, "vertices 3"]:
    """Return where the vertices of the surface are on the unit sphere that it begins as."""
    control, surface = subdivision.sphere(halvings, subdivisions)
    places = np.einsum("tv,tvd->vd", surface.weights, control[surface.terms])
    return (places / np.linalg.norm(places, axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _rings(halvings: int, subdivisions: int) -> Int[np.ndarray, "vertices most"]:
    """Return the faces around each vertex; where there are fewer than most, one of them again."""
    faces = subdivision.sphere(halvings, subdivisions).surface.faces
    order = np.argsort(faces.ravel(), kind="stable")
    counts = np.bincount(faces.ravel())
    first = np.cumsum(counts) - counts
    place = first[:, None] + np.minimum(np.arange(counts.max()), counts[:, None] - 1)
    return (order[place] // 3).astype(np.int32)


def _clipped(values: Float[Array, "*shape"], low: float, high: float) -> Float[Array, "*shape"]:
    """Return values within bounds; gradients pass, so that what has left them can come back."""
    return values + jax.lax.stop_gradient(jnp.clip(values, low, high) - values)


def _bent(
    normals: Float[Array, "*batch 3"], bump: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 3"]:
    """Return normals that a normal map bends: its third axis is the surface's normal.

    Its first is level: what is east and up there is where the map says so for any shape.
    """
    up = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), normals.shape)
    east = unit(jnp.cross(up, normals), 1e-2)
    north = jnp.cross(normals, east)
    bent = bump[..., :1] * east + bump[..., 1:2] * north + bump[..., 2:] * normals
    return unit(bent, 1e-2)


def _texels(
    mesh: SurfaceMesh, cameras: Camera, image_size: int, texture_size: int
) -> Float[Array, "views faces"]:
    """Return how many texels, in each direction, a pixel of each face covers in the mean."""
    corners = jax.lax.stop_gradient(in_camera(mesh.vertices, cameras))
    places = project(corners, cameras.focal[:, None], image_size)
    a, b, c = (places[:, mesh.faces[:, k]] for k in range(3))
    first, second = b - a, c - a
    pixels = 0.5 * jnp.abs(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])
    own = texture_size**2 / len(mesh.faces)  # all faces of the sphere are nearly alike
    return jnp.sqrt(own / jnp.maximum(pixels, 1e-3))


def _nearest(
    mesh: SurfaceMesh, rings: Int[Array, "vertices most"], points: Float[Array, "points 3"]
) -> tuple[Int[Array, "points"], Float[Array, "points 3"], Float[Array, "points"]]:
    """Return the nearest face, of those around the nearest vertex, the weights of its corners at
    the nearest place of it, and 1 behind it, 0 before it."""
    vertices = mesh.vertices
    product = jnp.matmul(points, vertices.T, precision=jax.lax.Precision.HIGHEST)
    vertex = jnp.argmin(dot(vertices, vertices)[None] - 2 * product, axis=1)
    faces = rings[vertex]
    corners = vertices[mesh.faces[faces]]
    weights = _closest(points[:, None], *(corners[..., k, :] for k in range(3)))
    places = jnp.sum(weights[..., None] * corners, axis=-2)
    offset = points[:, None] - places
    best = jnp.argmin(dot(offset, offset), axis=1)
    rows = jnp.arange(len(points))
    a, b, c = (corners[rows, best, k] for k in range(3))
    behind = dot(offset[rows, best], jnp.cross(b - a, c - a)) < 0
    return faces[rows, best], weights[rows, best], behind.astype(points.dtype)


def _closest(
    point: Float[Array, "*#batch 3"],
    a: Float[Array, "*#batch 3"],
    b: Float[Array, "*#batch 3"],
    c: Float[Array, "*#batch 3"],
) -> Float[Array, "*batch 3"]:
    """Return the weights of a triangle's corners at its place nearest to a point.

    The nearest of its plane, if that is inside; else the nearest of the three sides.
    """
    normal = jnp.cross(b - a, c - a)
    area = jnp.maximum(dot(normal, normal), 1e-20)
    pairs = ((b, c), (c, a), (a, b))
    parts = [dot(normal, jnp.cross(p - point, q - point)) / area for p, q in pairs]
    plane = jnp.stack(parts, axis=-1)
    candidates, distances = [], []
    for k, (p, q) in enumerate(pairs):
        side = q - p
        part = jnp.clip(dot(point - p, side) / jnp.maximum(dot(side, side), 1e-20), 0.0, 1.0)
        weights = [jnp.zeros_like(part)] * 3
        weights[(k + 1) % 3], weights[(k + 2) % 3] = 1 - part, part
        candidates.append(jnp.stack(weights, axis=-1))
        offset = point - p - part[..., None] * side
        distances.append(dot(offset, offset))
    nearest = jnp.argmin(jnp.stack(distances), axis=0)
    on_side = jnp.take_along_axis(jnp.stack(candidates), nearest[None, ..., None], axis=0)[0]
    return jnp.where(jnp.all(plane >= 0, axis=-1, keepdims=True), plane, on_side)
