"""Rays to pixels: the only file that composes the parts of a scene."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dreamfusion_jax import registry
from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.background import Background, FlatColor, in_front
from dreamfusion_jax.scene.base import FINISHED, Scene, Step, scene_of_parts
from dreamfusion_jax.scene.compaction import most_important, spread
from dreamfusion_jax.scene.fields import Field, MlpField
from dreamfusion_jax.scene.occupancy import DensityGrid, fit_density_grid
from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler, Sampler
from dreamfusion_jax.scene.rays import along, cast_rays
from dreamfusion_jax.scene.regularizers import orientation_penalty
from dreamfusion_jax.scene.shading import shade
from dreamfusion_jax.scene.volume import composite, rendering_weights
from dreamfusion_jax.schedules import Ramp
from dreamfusion_jax.types import Camera, FieldOutput, Light, Rays, RenderOutput


@register("scene", "nerf")
@dataclasses.dataclass(frozen=True)
class NerfScene(Scene):
    """A field that rays are sampled in, over a background (paper section 3.1).

    `lambda_sigma` is the standard deviation of the Gaussians that the field is asked for.
    """

    field: Field = MlpField()
    sampler: Sampler = HierarchicalSampler()
    background: Background = FlatColor()
    radius: float = 1.4
    lambda_sigma: Ramp = Ramp(5e-2, 2e-3, 5000)

    def __post_init__(self):
        check_within(self, radius=(1e-3, 1e3))
        check_within(self.lambda_sigma, start=(0, 10), end=(0, 10), steps=(0, 10**8))
        # One number, said once: the field is asked within the scene's sphere.
        if self.field.radius != self.radius:
            object.__setattr__(self, "field", self.field.clone(radius=self.radius))

    @classmethod
    def from_config(cls, config: registry.Keys) -> "NerfScene":
        """Return the scene of `config.scene`; `space` says what its pixels are.

        Raises:
          UserError: a value makes no sense.
        """
        return scene_of_parts(cls, config, ("field", "background", "sampler"))

    @property
    def channels(self) -> int:
        """Those of the field's albedo."""
        return self.field.channels

    def init(self, key: Key[Array, ""]) -> dict[str, Any]:
        """Return fresh parameters {"field": ..., "background": ...}."""
        field_key, background_key = jax.random.split(key)
        field = self.field.init(field_key, jnp.zeros((1, 3)), 0.0, 0)
        return {"field": field, "background": self.background.init(background_key)}

    def render(
        self,
        params: dict[str, Any],
        cameras: Camera,
        lights: Light,
        keys: Key[Array, "views"],
        step: Step,
        *,
        image_size: int,
        state: DensityGrid | None = None,
    ) -> RenderOutput:
        """Return training views, see `Scene`; the key of a view draws background and samples."""
        rays = jax.vmap(lambda camera: cast_rays(camera, image_size, self.radius))(cameras)
        background_keys, sample_keys = (
            jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (2, 3)
        )
        colors = functools.partial(self.background.colors, params["background"])
        background = jax.vmap(colors)(rays.directions, background_keys)
        return render_rays(self, params, rays, lights, background, sample_keys, step, grid=state)

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
        rays = jax.vmap(lambda camera: cast_rays(camera, image_size, self.radius))(cameras)
        black = jnp.zeros_like(rays.origins)
        return render_rays(self, params, rays, lights, black, None, step)

    def at_points(
        self, params: dict[str, Any], points: Float[Array, "points 3"], step: Step = FINISHED
    ) -> FieldOutput:
        """Return density and albedo at points, without normals."""
        ready = prepare(self, params, step)
        return self.field.query(ready.tables, points, normals=False)

    def variance(self, step: Step) -> Float[Array, ""]:
        """Return lambda_Sigma^2 at a step."""
        return jnp.asarray(self.lambda_sigma(step), jnp.float32) ** 2

    def initial_state(self, params: dict[str, Any]) -> DensityGrid | None:
        """Return the sampler's grid of the field as it begins, without annealing."""
        return self.sampler.initial_grid(self.field, self.field.prepare(params["field"], 0.0))

    def refresh(
        self, state: DensityGrid | None, params: dict[str, Any], step: Step, key: Key[Array, ""]
    ) -> DensityGrid | None:
        """Return the sampler's grid after another look at the field."""
        frozen = jax.lax.stop_gradient(params["field"])
        prepared = self.field.prepare(frozen, self.variance(step), step)
        return self.sampler.refresh(state, self.field, prepared, key)

    @property
    def refresh_every(self) -> int:
        """Steps between two looks of the sampler at the field."""
        return self.sampler.refresh_every


@flax.struct.dataclass
class Prepared:
    """A scene at a moment, ready to be seen: what all its renderings share.

    `tables` is what the field's queries read, `grid` its density for the sampler (None where that
    needs none).
    """

    tables: Any
    grid: DensityGrid | None


def prepare(
    scene: NerfScene, params: dict, step: Step = FINISHED, *, grid: DensityGrid | None = None
) -> Prepared:
    """Make a scene ready to be seen as it is at a step. Arguments as for `render_rays`."""
    return Prepared(scene.field.prepare(params["field"], scene.variance(step), step), grid)


def render_rays(
    scene: NerfScene,
    params: dict,
    rays: Rays,
    light: Light,
    background: Float[Array, "*rays behind"],
    key: Key[Array, "*views"] | None,
    step: Step = FINISHED,
    *,
    grid: DensityGrid | None = None,
    normals: bool = True,
) -> RenderOutput:
    """Render rays: of one view, or of several with a light and a key each.

    Views are not vmapped over: the field sees all their points as one flat batch.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      rays: any batch of rays; with several views they are the leading dimension.
      light: one light, or one for each view.
      background: colors in [0, 1] behind the object; channels that they lack are 0.5.
      key: jitters the samples, one or one for each view; None renders at fixed samples.
      step: of the run, for all that is annealed.
      grid: of the scene's sampler, if it has one.
      normals: False leaves out all that needs the field's gradient: normals are then
        zero and the colors are the albedo.
    """
    prepared = prepare(scene, params, step, grid=grid)
    return render_prepared(scene, prepared, rays, light, background, key, normals=normals)


def render_prepared(
    scene: NerfScene,
    prepared: Prepared,
    rays: Rays,
    light: Light,
    background: Float[Array, "*rays behind"],
    key: Key[Array, "*views"] | None,
    *,
    normals: bool = True,
) -> RenderOutput:
    """`render_rays` of a scene that `prepare` has made ready."""
    tables = prepared.tables
    samples = scene.sampler.place(scene.field, tables, prepared.grid, rays, key)
    t_vals = samples.t_vals
    distances = 0.5 * (t_vals[..., 1:] + t_vals[..., :-1])
    points = along(rays, distances)

    def query(points):
        return scene.field.query(tables, points, normals=normals)

    if samples.importance is None or scene.sampler.budget >= 1:
        field = query(points)
    else:
        field = _query_some(query, points, samples.importance, scene.sampler.budget, key)
    if not normals:
        field = field.replace(normals=jnp.zeros_like(points))
    weights = rendering_weights(field.density, jnp.diff(t_vals, axis=-1))
    return _composite_all(field, points, distances, weights, rays, light, background)


def _query_some(
    query: Callable[[Float[Array, "points 3"]], FieldOutput],
    points: Float[Array, "*rays samples 3"],
    importance: Float[Array, "*rays samples"],
    budget: float,
    key: Key[Array, "*views"] | None,
) -> FieldOutput:
    """Return the field at the most important samples; elsewhere it is empty."""
    shape, flat = points.shape[:-1], points.reshape(-1, 3)
    if key is not None:
        key = jax.random.fold_in(key.ravel()[0], 2)
    index, place = most_important(importance.ravel(), math.ceil(budget * len(flat)), key)
    found = query(flat.at[index].get(mode="promise_in_bounds"))
    return jax.tree.map(lambda x: spread(x, place).reshape(*shape, *x.shape[1:]), found)


def _composite_all(
    field: FieldOutput,
    points: Float[Array, "*rays samples 3"],
    distances: Float[Array, "*rays samples"],
    weights: Float[Array, "*rays samples"],
    rays: Rays,
    light: Light,
    background: Float[Array, "*rays behind"],
) -> RenderOutput:
    opacity, normals = jnp.sum(weights, axis=-1), field.normals
    assert normals is not None  # as they were asked for, or made
    color = composite(weights, shade(field, points, light))
    return RenderOutput(
        rgb=in_front(color, opacity, background),
        albedo=composite(weights, field.albedo),
        opacity=opacity,
        depth=jnp.sum(weights * distances, axis=-1),
        normals=composite(weights, normals),
        orientation=orientation_penalty(weights, normals, rays.directions),
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def prepare_with_grid(scene: NerfScene, params: dict, step: Step, cells: int) -> Prepared:
    """Make a scene ready to be seen, with a grid of `cells`^3 cells of its density."""
    ready = prepare(scene, params, step)
    return dataclasses.replace(ready, grid=fit_density_grid(scene.field, ready.tables, cells))


def density_at(
    scene: NerfScene,
    params: dict,
    points: Float[np.ndarray, "n 3"],
    step: int = FINISHED,
    *,
    chunk: int = 65536,
) -> Float[np.ndarray, "n"]:
    """Return the density at points, 0 outside the bounding sphere; bounded memory."""
    ready = prepare_once(scene, params, step)
    density = in_chunks(functools.partial(_density, scene.field, ready), points, chunk)
    return np.where(np.linalg.norm(points, axis=-1) < scene.radius, density, 0.0)


def field_at(
    scene: NerfScene,
    params: dict,
    points: Float[np.ndarray, "n 3"],
    step: int = FINISHED,
    *,
    chunk: int = 65536,
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
    """Return the density as in `density_at`, and albedo in [0, 1], at points; bounded memory."""
    ready = prepare_once(scene, params, step)
    both = in_chunks(functools.partial(_field, scene.field, ready), points, chunk)
    inside = np.linalg.norm(points, axis=-1) < scene.radius
    return np.where(inside, both[:, 0], 0.0), both[:, 1:]


prepare_once = jax.jit(prepare, static_argnums=0)  # for all that is asked of a finished scene


@functools.partial(jax.jit, static_argnums=0)
def _density(field: Field, ready: Prepared, points: Float[Array, "n 3"]) -> Float[Array, "n"]:
    return field.density(ready.tables, points)


@functools.partial(jax.jit, static_argnums=0)
def _field(field: Field, ready: Prepared, points: Float[Array, "n 3"]) -> Float[Array, "n 4"]:
    out = field.query(ready.tables, points, normals=False)
    return jnp.concatenate([out.density[:, None], out.albedo[:, :3]], 1)


def in_chunks(
    function: Callable[[Any], Array], points: Float[np.ndarray, "n 3"], chunk: int
) -> np.ndarray:
    """Return function(points), of at most `chunk` points at a time: what it compiles to is one."""
    chunk = min(chunk, len(points))
    padded = np.pad(points, [(0, math.ceil(len(points) / chunk) * chunk - len(points)), (0, 0)])
    parts = [
        function(padded[i : i + chunk].astype(np.float32)) for i in range(0, len(padded), chunk)
    ]
    return np.concatenate(jax.device_get(parts))[: len(points)]
