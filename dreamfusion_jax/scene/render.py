"""Rays to pixels: the only file that composes the parts of a scene."""

import dataclasses
import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dreamfusion_jax.scene.background import EnvironmentMap, random_colour, random_texture
from dreamfusion_jax.scene.fields import MlpField, density_of, query_density, query_field
from dreamfusion_jax.scene.regularisers import orientation_penalty
from dreamfusion_jax.scene.sampling import fine_edges, stratified_points, uniform_edges
from dreamfusion_jax.scene.shading import shade
from dreamfusion_jax.scene.volume import composite, rendering_weights
from dreamfusion_jax.types import FieldOutput, Light, Rays, RenderOutput

FINAL_BLUR = 2e-3  # lambda_Sigma at the end of the paper's annealing


@dataclasses.dataclass(frozen=True)
class Scene:
    """The modules and sampling numbers of a scene; its parameters live elsewhere.

    `field` is any module with the call and the `channels` of `MlpField`.
    `points_per_chunk` bounds what is worked on at a time, see `query_field`.
    `background` is None for a random flat colour ~ N(colour_mean, colour_std^2) a view, or with
    `textures` a random texture.
    """

    field: nn.Module = MlpField()
    background: EnvironmentMap | None = None
    radius: float = 1.4
    coarse_samples: int = 64
    fine_samples: int = 32
    points_per_chunk: int = 0
    colour_mean: float = 0.5
    colour_std: float = 0.3
    textures: bool = False

    @classmethod
    def from_config(cls, config) -> "Scene":
        """Builds a scene from `config.scene`."""
        channels = {"channels": 4 if config.colour_space == "latent" else 3}
        environment = None
        if config.background.kind == "environment":
            environment = EnvironmentMap(**config.background.environment, **channels)
        return cls(
            field=MlpField(**config.field, **channels),
            background=environment,
            radius=config.radius,
            coarse_samples=config.coarse_samples,
            fine_samples=config.fine_samples,
            points_per_chunk=config.points_per_chunk,
            colour_mean=config.background.colour_mean,
            colour_std=config.background.colour_std,
            textures=config.background.kind == "textures",
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


def background_colours(
    scene: Scene, params: dict, directions: Float[Array, "*rays 3"], key: Key[Array, ""]
) -> Float[Array, "*rays channels"]:
    """What a training view shows where there is no object."""
    if scene.background is not None:
        return scene.background.apply(params["background"], directions)
    if scene.textures:
        return random_texture(key, directions.shape[0])
    colour = random_colour(key, scene.colour_mean, scene.colour_std, scene.field.channels)
    return jnp.broadcast_to(colour, (*directions.shape[:-1], len(colour)))


def render_rays(
    scene: Scene,
    params: dict,
    rays: Rays,
    light: Light,
    background: Float[Array, "*rays behind"],
    key: Key[Array, "*views"] | None,
    *,
    blur: float | Float[Array, ""] | None = None,
) -> RenderOutput:
    """Renders rays: of one view, or of several with a light and a key each.

    Views are not vmapped over: the field sees all their points as one flat batch.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters, see `with_blur`.
      rays: any batch of rays; with several views they are the leading dimension.
      light: one light, or one for each view.
      background: colours in [0, 1] behind the object; channels that they lack are 0.5.
      key: jitters the samples, one or one for each view; None renders at fixed samples.
      blur: lambda_Sigma, the standard deviation of the field's input Gaussians; None takes that of
        `params`.
    """
    blur = _blur(params) if blur is None else blur
    edges = _place_samples(scene, params, rays, blur**2, key)
    distances = 0.5 * (edges[..., 1:] + edges[..., :-1])
    points = _along(rays, distances)
    field = query_field(scene.field, params["field"], points, blur**2, chunk=scene.points_per_chunk)
    weights = rendering_weights(field.density, jnp.diff(edges, axis=-1))
    return _composite_all(field, points, distances, weights, rays, light, background)


def _place_samples(
    scene: Scene, params: dict, rays: Rays, variance, key: Key[Array, "*views"] | None
) -> Float[Array, "*rays edges"]:
    # The coarse pass only says where to look: no gradient, no albedo, no normals.
    frozen = jax.lax.stop_gradient(params["field"])
    edges = uniform_edges(rays, scene.coarse_samples)
    points = _along(rays, _with_keys(stratified_points, edges, key=key))
    density = query_density(scene.field, frozen, points, variance, chunk=scene.points_per_chunk)
    weights = rendering_weights(density, jnp.diff(edges, axis=-1))
    place = functools.partial(fine_edges, intervals=scene.fine_samples)
    fine_key = None if key is None else _with_keys(lambda k: jax.random.fold_in(k, 1), key=key)
    return _with_keys(place, edges, weights, key=fine_key)


def _with_keys(function: Callable, *arrays: Array, key: Key[Array, "*views"] | None) -> Array:
    """function(*arrays, key=key), mapped over the views if there is a key for each."""
    if key is None or key.ndim == 0:
        return function(*arrays, key)
    return jax.vmap(function)(*arrays, key)


def _along(rays: Rays, distances: Float[Array, "*rays samples"]) -> Float[Array, "*rays samples 3"]:
    return rays.origins[..., None, :] + distances[..., None] * rays.directions[..., None, :]


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
    colour = composite(weights, shade(field, points, light))
    lacking = colour.shape[-1] - background.shape[-1]
    if lacking:
        fill = [(0, 0)] * (background.ndim - 1) + [(0, lacking)]
        background = jnp.pad(background, fill, constant_values=0.5)
    return RenderOutput(
        rgb=colour + (1.0 - opacity[..., None]) * background,
        albedo=composite(weights, field.albedo),
        opacity=opacity,
        depth=jnp.sum(weights * distances, axis=-1),
        normals=composite(weights, field.normals),
        orientation=orientation_penalty(weights, field.normals, rays.directions),
    )


def density_at(
    scene: Scene, params: dict, points: Float[np.ndarray, "n 3"], *, chunk: int = 65536
) -> Float[np.ndarray, "n"]:
    """Density at points, 0 outside the bounding sphere; bounded memory."""
    density = _in_chunks(functools.partial(_density, scene.field, params), points, chunk)
    return np.where(np.linalg.norm(points, axis=-1) < scene.radius, density, 0.0)


def field_at(
    scene: Scene, params: dict, points: Float[np.ndarray, "n 3"], *, chunk: int = 65536
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
    """Density as in `density_at`, and albedo in [0, 1], at points; bounded memory."""
    both = _in_chunks(functools.partial(_field, scene.field, params), points, chunk)
    inside = np.linalg.norm(points, axis=-1) < scene.radius
    return np.where(inside, both[:, 0], 0.0), both[:, 1:]


@functools.partial(jax.jit, static_argnums=0)
def _density(field: nn.Module, params: dict, points: Float[Array, "n 3"]) -> Float[Array, "n"]:
    return query_density(field, params["field"], points, _blur(params) ** 2)


@functools.partial(jax.jit, static_argnums=0)
def _field(field: nn.Module, params: dict, points: Float[Array, "n 3"]) -> Float[Array, "n 4"]:
    log_density, albedo = field.apply(params["field"], points, _blur(params) ** 2)
    return jnp.concatenate([density_of(log_density)[:, None], albedo[:, :3]], 1)


def _in_chunks(function, points: np.ndarray, chunk: int) -> np.ndarray:
    chunk = min(chunk, len(points))
    padded = np.pad(points, [(0, math.ceil(len(points) / chunk) * chunk - len(points)), (0, 0)])
    parts = [
        np.asarray(function(padded[i : i + chunk].astype(np.float32)))
        for i in range(0, len(padded), chunk)
    ]
    return np.concatenate(parts)[: len(points)]
