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
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.background import EnvironmentMap, random_color, random_texture
from dreamfusion_jax.scene.compaction import most_important, spread
from dreamfusion_jax.scene.fields import Field, MlpField
from dreamfusion_jax.scene.occupancy import DensityGrid, fit_density_grid
from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler, Sampler
from dreamfusion_jax.scene.rays import along
from dreamfusion_jax.scene.regularizers import orientation_penalty
from dreamfusion_jax.scene.shading import shade
from dreamfusion_jax.scene.volume import composite, rendering_weights
from dreamfusion_jax.types import FieldOutput, Light, Rays, RenderOutput

FINAL_BLUR = 2e-3  # lambda_Sigma at the end of the paper's annealing


@dataclasses.dataclass(frozen=True)
class Scene:
    """The modules and sampling numbers of a scene; its parameters live elsewhere.

    `background` is None for a random flat color ~ N(color_mean, color_std^2) a view, or with
    `textures` a random texture.
    """

    field: Field = MlpField()
    sampler: Sampler = HierarchicalSampler()
    background: EnvironmentMap | None = None
    radius: float = 1.4
    color_mean: float = 0.5
    color_std: float = 0.3
    textures: bool = False

    def __post_init__(self):
        # One number, said once: the field is asked within the scene's sphere.
        if self.field.radius != self.radius:
            object.__setattr__(self, "field", self.field.clone(radius=self.radius))

    @classmethod
    def from_config(cls, config) -> "Scene":
        """Builds a scene from `config.scene`."""
        background = config.background
        _check_numbers(
            radius=config.radius,
            color_mean=background.color_mean,
            color_std=background.color_std,
        )
        channels = {"channels": 4 if config.color_space == "latent" else 3}
        environment = None
        if background.kind == "environment":
            settings = {"name": "environment", **background.environment}
            where = "scene.background.environment"
            environment = registry.build("background", settings, where, **channels)
        return cls(
            field=registry.build("field", config.field, "scene.field", **channels),
            sampler=registry.build("sampler", config.sampler, "scene.sampler"),
            background=environment,
            radius=config.radius,
            color_mean=background.color_mean,
            color_std=background.color_std,
            textures=background.kind == "textures",
        )


def _check_numbers(radius: Any, color_mean: Any, color_std: Any) -> None:
    if not registry.is_number(radius) or not 1e-3 <= radius <= 1e3:
        raise UserError(f"scene.radius is {radius!r:.40}; it must be within 0.001 and 1000.")
    for name, value in (("color_mean", color_mean), ("color_std", color_std)):
        if not registry.is_number(value) or not 0 <= value <= 10:
            raise UserError(
                f"scene.background.{name} is {value!r:.40}; it must be within 0 and 10."
            )


def init_params(scene: Scene, key: Key[Array, ""]) -> dict:
    """Fresh parameters {"field": ..., "background": ...} (no background: {})."""
    field_key, background_key = jax.random.split(key)
    params = {"field": scene.field.init(field_key, jnp.zeros((1, 3)), 0.0), "background": {}}
    if scene.background is not None:
        params["background"] = scene.background.init(background_key, jnp.zeros((1, 3)))
    return params


def with_blur(params: dict, blur: float | Float[Array, ""]) -> dict:
    """The parameters of a scene to look at, which it shall be seen with: lambda_Sigma of its step.

    Without it a scene is seen as at the end of the paper's annealing.
    """
    return params | {"blur": np.float32(blur)}


def _blur(params: dict) -> float | Float[Array, ""]:
    return params.get("blur", FINAL_BLUR)


@flax.struct.dataclass
class Prepared:
    """A scene at a moment, ready to be seen: what all its renderings share.

    `tables` is what the field's queries read, `grid` its density for the sampler (None where that
    needs none), `variance` lambda_Sigma^2.
    """

    tables: Any
    grid: DensityGrid | None
    variance: Float[Array, ""]


def prepare(
    scene: Scene,
    params: dict,
    *,
    grid: DensityGrid | None = None,
    blur: float | Float[Array, ""] | None = None,
) -> Prepared:
    """Makes a scene ready to be seen. Arguments as for `render_rays`."""
    variance = jnp.asarray(_blur(params) if blur is None else blur, jnp.float32) ** 2
    return Prepared(scene.field.prepare(params["field"], variance), grid, variance)


def background_colors(
    scene: Scene, params: dict, directions: Float[Array, "*rays 3"], key: Key[Array, ""]
) -> Float[Array, "*rays channels"]:
    """What a training view shows where there is no object."""
    if scene.background is not None:
        return scene.background.apply(params["background"], directions)
    if scene.textures:
        return random_texture(key, directions.shape[0])
    color = random_color(key, scene.color_mean, scene.color_std, scene.field.channels)
    return jnp.broadcast_to(color, (*directions.shape[:-1], len(color)))


def render_rays(
    scene: Scene,
    params: dict,
    rays: Rays,
    light: Light,
    background: Float[Array, "*rays behind"],
    key: Key[Array, "*views"] | None,
    *,
    grid: DensityGrid | None = None,
    blur: float | Float[Array, ""] | None = None,
    normals: bool = True,
) -> RenderOutput:
    """Renders rays: of one view, or of several with a light and a key each.

    Views are not vmapped over: the field sees all their points as one flat batch.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters, see `with_blur`.
      rays: any batch of rays; with several views they are the leading dimension.
      light: one light, or one for each view.
      background: colors in [0, 1] behind the object; channels that they lack are 0.5.
      key: jitters the samples, one or one for each view; None renders at fixed samples.
      grid: of the scene's sampler, if it has one.
      blur: lambda_Sigma, the standard deviation of the field's input Gaussians; None takes that of
        `params`.
      normals: False leaves out all that needs the field's gradient: normals are then
        zero and the colors are the albedo.
    """
    prepared = prepare(scene, params, grid=grid, blur=blur)
    return render_prepared(scene, prepared, rays, light, background, key, normals=normals)


def render_prepared(
    scene: Scene,
    prepared: Prepared,
    rays: Rays,
    light: Light,
    background: Float[Array, "*rays behind"],
    key: Key[Array, "*views"] | None,
    *,
    normals: bool = True,
) -> RenderOutput:
    """`render_rays` of a scene that `prepare` has made ready."""
    tables, variance = prepared.tables, prepared.variance
    samples = scene.sampler.place(scene.field, tables, prepared.grid, rays, variance, key)
    t_vals = samples.t_vals
    distances = 0.5 * (t_vals[..., 1:] + t_vals[..., :-1])
    points = along(rays, distances)

    def query(points):
        return scene.field.query(tables, points, variance, normals=normals)

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
    """The field at the most important samples; elsewhere it is empty."""
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
    opacity = jnp.sum(weights, axis=-1)
    color = composite(weights, shade(field, points, light))
    lacking = color.shape[-1] - background.shape[-1]
    if lacking:
        fill = [(0, 0)] * (background.ndim - 1) + [(0, lacking)]
        background = jnp.pad(background, fill, constant_values=0.5)
    return RenderOutput(
        rgb=color + (1.0 - opacity[..., None]) * background,
        albedo=composite(weights, field.albedo),
        opacity=opacity,
        depth=jnp.sum(weights * distances, axis=-1),
        normals=composite(weights, field.normals),
        orientation=orientation_penalty(weights, field.normals, rays.directions),
    )


@functools.partial(jax.jit, static_argnums=(0, 2))
def prepare_with_grid(scene: Scene, params: dict, cells: int) -> Prepared:
    """Makes a scene ready to be seen, with a grid of `cells`^3 cells of its density."""
    ready = prepare(scene, params)
    return ready.replace(grid=fit_density_grid(scene.field, ready.tables, cells, ready.variance))


def density_at(
    scene: Scene, params: dict, points: Float[np.ndarray, "n 3"], *, chunk: int = 65536
) -> Float[np.ndarray, "n"]:
    """Density at points, 0 outside the bounding sphere; bounded memory."""
    ready = prepare_once(scene, params)
    density = _in_chunks(functools.partial(_density, scene.field, ready), points, chunk)
    return np.where(np.linalg.norm(points, axis=-1) < scene.radius, density, 0.0)


def field_at(
    scene: Scene, params: dict, points: Float[np.ndarray, "n 3"], *, chunk: int = 65536
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
    """Density as in `density_at`, and albedo in [0, 1], at points; bounded memory."""
    ready = prepare_once(scene, params)
    both = _in_chunks(functools.partial(_field, scene.field, ready), points, chunk)
    inside = np.linalg.norm(points, axis=-1) < scene.radius
    return np.where(inside, both[:, 0], 0.0), both[:, 1:]


prepare_once = jax.jit(prepare, static_argnums=0)  # for all that is asked of a finished scene


@functools.partial(jax.jit, static_argnums=0)
def _density(field: Field, ready: Prepared, points: Float[Array, "n 3"]) -> Float[Array, "n"]:
    return field.density(ready.tables, points, ready.variance)


@functools.partial(jax.jit, static_argnums=0)
def _field(field: Field, ready: Prepared, points: Float[Array, "n 3"]) -> Float[Array, "n 4"]:
    out = field.query(ready.tables, points, ready.variance, normals=False)
    return jnp.concatenate([out.density[:, None], out.albedo[:, :3]], 1)


def _in_chunks(function, points: np.ndarray, chunk: int) -> np.ndarray:
    chunk = min(chunk, len(points))
    padded = np.pad(points, [(0, math.ceil(len(points) / chunk) * chunk - len(points)), (0, 0)])
    parts = [
        function(padded[i : i + chunk].astype(np.float32)) for i in range(0, len(padded), chunk)
    ]
    return np.concatenate(jax.device_get(parts))[: len(points)]
