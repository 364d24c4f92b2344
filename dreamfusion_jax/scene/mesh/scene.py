"""The scene as a surface: a mesh from a grid of distances, colored by a field."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dreamfusion_jax import registry
from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.background import Background, FlatColor
from dreamfusion_jax.scene.base import FINISHED, Scene, Step, scene_of_parts
from dreamfusion_jax.scene.fields import Field, MlpField
from dreamfusion_jax.scene.fields.interpolation import gather_trilinear, grid_coordinates
from dreamfusion_jax.scene.mesh.drawing import draw_mesh, over_background
from dreamfusion_jax.scene.mesh.dual_cubes import Used, dual_marching_cubes
from dreamfusion_jax.scene.mesh.rasterizer import dot
from dreamfusion_jax.schedules import Ramp
from dreamfusion_jax.types import Camera, FieldOutput, Light, RenderOutput, SurfaceMesh

SHOWN = COLORS, NORMALS = ("colors", "normals")
_BORDER = 4.0  # cells at most that a distance says: further away it has no meaning


@register("scene", "mesh")
@dataclasses.dataclass(frozen=True)
class MeshScene(Scene):
    """The zero level of signed distances on a grid (DMTet, FlexiCubes), with a field's colors.

    Its parameters are those of the field and of the background, and under "surface" the distances
    at the corners of `cells`^3 cells, in cells and negative inside, and how far the corners are
    moved. There is room for `budget` `cells`^2 vertices: a sphere that fills the scene
    takes 4.7; what is more is left out while the scene is optimized. At first it is a sphere,
    `sphere` of the scene's radius. The field is asked for Gaussians of standard deviation
    `lambda_sigma` (its density is not).

    Training views show "colors"; or "normals", in the camera's frame and from [-1, 1] to [0, 1], so
    that the prior judges the shape alone (Fantasia3D, Chen et al. 2023). `fixed` leaves the surface
    as it is.
    """

    field: Field = MlpField()
    background: Background = FlatColor()
    radius: float = 1.4
    lambda_sigma: Ramp = Ramp(2e-3, 2e-3, 1)
    cells: int = 64
    budget: float = 6.0
    sphere: float = 0.5
    shows: str = COLORS
    fixed: bool = False

    def __post_init__(self):
        check_within(
            self, radius=(1e-3, 1e3), cells=(4, 512), budget=(0.1, 100), sphere=(0.05, 0.95)
        )
        check_within(self.lambda_sigma, start=(0, 10), end=(0, 10), steps=(0, 10**8))
        if self.shows not in SHOWN:
            raise ValueError(f"shows is {self.shows!r}; it must be one of {', '.join(SHOWN)}.")
        if self.field.radius != self.radius:
            object.__setattr__(self, "field", self.field.clone(radius=self.radius))

    @classmethod
    def from_config(cls, config: registry.Keys) -> "MeshScene":
        """Return the scene of `config.scene`; `space` says what its pixels are.

        Raises:
          UserError: a value makes no sense.
        """
        return scene_of_parts(cls, config, ("field", "background"))

    @property
    def channels(self) -> int:
        """Those of the field's albedo."""
        return self.field.channels

    @property
    def cell(self) -> float:
        """The length of a cell's side."""
        return 2 * self.radius / self.cells

    @property
    def room(self) -> int:
        """How many vertices, and how many quads, there is room for."""
        return math.ceil(self.budget * self.cells**2)

    def grid(self) -> Float[Array, "n n n 3"]:
        """Return the corners of the cells, not moved."""
        axis = jnp.linspace(-self.radius, self.radius, self.cells + 1)
        return jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Return fresh parameters {"field": ..., "background": ..., "surface": ...}."""
        field_key, background_key = jax.random.split(key)
        distance = jnp.linalg.norm(self.grid(), axis=-1) - self.sphere * self.radius
        return {
            "field": self.field.init(field_key, jnp.zeros((1, 3)), 0.0, 0),
            "background": self.background.init(background_key),
            "surface": self.surface_params(distance),
        }

    def surface_params(self, distance: Float[Array, "n n n"]) -> dict[str, Any]:
        """Return the parameters of the surface where a distance, in scene units, is 0."""
        cells = jnp.clip(distance / self.cell, -_BORDER, _BORDER)
        return {"level_distance": cells, "level_offset": jnp.zeros((*distance.shape, 3))}

    def mesh(self, params: dict[str, Any], room: int | None = None) -> tuple[SurfaceMesh, Used]:
        """Return the surface in the world frame, and how much of its room it has taken."""
        surface = params["surface"]
        corners = self.grid() + 0.5 * self.cell * jnp.tanh(surface["level_offset"])
        return dual_marching_cubes(surface["level_distance"], corners, room or self.room)

    def surface(self, params: dict[str, Any]) -> SurfaceMesh:
        """Return the whole surface, whatever the budget is: not within a compiled program."""
        mesh, used = _mesh(self, params, self.room)
        vertices, quads = max(int(used.vertices), 1), int(used.quads)
        if max(vertices, quads) > self.room:
            mesh, _ = _mesh(self, params, max(vertices, quads))
        return mesh.replace(vertices=mesh.vertices[:vertices], faces=mesh.faces[: 2 * quads])

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
        mesh, _ = self.mesh(params)
        tables = self.field.prepare(params["field"], self.variance(step), step)

        def look(points, normals, _, fragments):
            field = self.field.query(tables, points, normals=False)
            return dataclasses.replace(field, normals=normals)

        views = draw_mesh(mesh, look, cameras, lights, image_size)
        return dataclasses.replace(views, distance=params["surface"]["level_distance"])

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
        if self.fixed:
            params = params | {"surface": jax.lax.stop_gradient(params["surface"])}
        views = self.draw(params, cameras, lights, image_size=image_size, step=step)
        if self.shows == NORMALS:
            views = dataclasses.replace(views, rgb=self._normal_colors(views, cameras))
        behind = self.background, params["background"]
        return over_background(views, *behind, cameras, keys, self.radius)

    def _normal_colors(self, views: RenderOutput, cameras: Camera) -> Array:
        """Return normals as premultiplied colors; a fourth channel is 0.5."""
        columns = jnp.moveaxis(cameras.rotation, -1, 0)[:, :, None, None]
        normals = jnp.stack([dot(views.normals, column) for column in columns], axis=-1)
        colors = 0.5 * (normals + views.opacity[..., None])
        rest = jnp.broadcast_to(
            0.5 * views.opacity[..., None], (*colors.shape[:-1], self.channels - 3)
        )
        return jnp.concatenate([colors, rest], axis=-1)

    def at_points(
        self, params: dict[str, Any], points: Float[Array, "points 3"], step: Step = FINISHED
    ) -> FieldOutput:
        """Return the field's albedo, and a density that is half of its greatest at the surface.

        It is that of VolSDF (Yariv et al. 2021, Eq. 2 and 3), with a beta of half a cell.
        """
        tables = self.field.prepare(params["field"], self.variance(step), step)
        field = self.field.query(tables, points, normals=False)
        distance = params["surface"]["level_distance"][..., None]
        places = grid_coordinates(points, self.radius, self.cells + 1)
        (found,) = gather_trilinear([distance], places)
        beta = 0.5
        share = jnp.exp(-jnp.abs(found[:, 0]) / beta) / 2
        inside = jnp.where(found[:, 0] < 0, 1 - share, share)
        return dataclasses.replace(field, density=inside / (beta * self.cell))

    def variance(self, step: Step) -> Float[Array, ""]:
        """Return lambda_Sigma^2 at a step."""
        return jnp.asarray(self.lambda_sigma(step), jnp.float32) ** 2


@functools.partial(jax.jit, static_argnums=(0, 2))
def _mesh(scene: MeshScene, params: Any, room: int) -> tuple[SurfaceMesh, Used]:
    return scene.mesh(params, room)
