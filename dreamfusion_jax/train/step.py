"""One step of score distillation, in the order of the paper's Algorithm (section 3)."""

import functools
import math
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax.diffusion.latent_colors import to_prior_range
from dreamfusion_jax.prompts.view_prompts import select_rows
from dreamfusion_jax.scene.cameras import choose, sample_camera
from dreamfusion_jax.scene.lights import sample_light
from dreamfusion_jax.scene.occupancy import DensityGrid
from dreamfusion_jax.scene.rays import cast_rays
from dreamfusion_jax.scene.regularizers import entropy_penalty, opacity_penalty
from dreamfusion_jax.scene.render import background_colors, render_rays
from dreamfusion_jax.train.stage import AXIS, Stage
from dreamfusion_jax.train.state import (
    GRID_STREAM,
    TrainState,
    refresh_grids,
    update_guidance,
    update_scenes,
)
from dreamfusion_jax.types import Camera, Light, RenderedViews, TextEmbeddings


def train_step(
    stage: Stage,
    state: TrainState,
    prior_params: Any,
    embeddings: TextEmbeddings,
    own_cameras: Camera | None,
    seed_keys: Key[Array, "scenes"],
    device_index: Int[Array, ""],
) -> tuple[TrainState, dict[str, Float[Array, "scenes"]]]:
    """Takes one step of every scene, on `stage.views` views of each on this device.

    Scenes are independent of each other. All their images go through the prior in one
    batch; gradients are averaged over AXIS.
    """
    # A view's key depends on its number among all views, not on who renders it: the
    # same views are drawn on any number of devices.
    numbers = device_index * stage.views + jnp.arange(stage.views)
    keys = view_keys(seed_keys, numbers, state.step)
    cameras, lights = sample_views(stage, state.step, keys, own_cameras)
    render = functools.partial(render_scenes, stage, state.step, keys, cameras, lights, state.grid)
    (x, penalties), vjp, (opacity, orientation) = jax.vjp(render, state.params, has_aux=True)

    rows = select_rows(embeddings, stage.view_prompts.index(cameras.azimuth, cameras.elevation))
    guidance_keys = jax.vmap(jax.random.fold_in, (0, None))(keys.ravel(), 4)
    views = flat_views(x, cameras, lights)
    grad_x, grad_guidance, figures = stage.guidance.gradient(
        state.guidance_params, stage.prior, prior_params, views, rows, guidance_keys, state.step
    )
    # What the prior saw, latents or pixels, counts: the mean over them weighs as much as
    # the mean over rays that the regularizers are.
    pixels = x.shape[1] * math.prod(stage.prior.latent_shape[:2])
    (grads,) = vjp((grad_x.reshape(x.shape) / pixels, jnp.ones_like(penalties)))

    metrics = {name: jnp.mean(v.reshape(x.shape[:2]), axis=1) for name, v in figures.items()}
    metrics |= {"opacity": opacity, "orientation": orientation}
    grads, grad_guidance, metrics = mean_over_devices((grads, grad_guidance, metrics))
    state = update_guidance(stage.guidance, grad_guidance, state)
    state = update_scenes(stage.optimizer, grads, state)
    state = refresh_grids(
        stage.scene, state, stage.blur(state.step) ** 2, grid_keys(seed_keys, state)
    )
    return state, metrics | {"gradient_norm": jax.vmap(optax.tree.norm)(grads)}


def view_keys(
    seed_keys: Key[Array, "scenes"], numbers: Int[Array, "views"], step: Int[Array, ""]
) -> Key[Array, "scenes views"]:
    """The key of each view of each scene at a step."""

    def key_of(seed_key, number):
        return jax.random.fold_in(jax.random.fold_in(seed_key, number), step)

    return jax.vmap(jax.vmap(key_of, (None, 0)), (0, None))(seed_keys, numbers)


def grid_keys(seed_keys: Key[Array, "scenes"], state: TrainState) -> Key[Array, "scenes"]:
    """The keys of what is drawn once a step and scene, not for each view."""
    return view_keys(seed_keys, jnp.array([GRID_STREAM]), state.step)[:, 0]


def sample_views(
    stage: Stage,
    step: Int[Array, ""],
    keys: Key[Array, "scenes views"],
    own_cameras: Camera | None,
) -> tuple[Camera, Light]:
    """Draws the camera and the light of each view: of the prior's own cameras, if there are any."""

    def one(own, key):
        camera_key = jax.random.fold_in(key, 0)
        camera = (
            sample_camera(camera_key, stage.cameras) if own is None else choose(camera_key, own)
        )
        return camera, sample_light(jax.random.fold_in(key, 1), camera, step, stage.lights)

    return jax.vmap(jax.vmap(one, (None, 0)))(own_cameras, keys)


def flat_views(
    images: Float[Array, "scenes views h w c"], cameras: Camera, lights: Light
) -> RenderedViews:
    """Return the views of all scenes as one batch, as guidance sees them."""
    image, camera, light = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (images, cameras, lights)
    )
    scene = jnp.repeat(jnp.arange(images.shape[0]), images.shape[1])
    return RenderedViews(image, camera, light, scene)


@jax.named_scope("render")
def render_scenes(
    stage: Stage,
    step: Int[Array, ""],
    keys: Key[Array, "scenes views"],
    cameras: Camera,
    lights: Light,
    grids: DensityGrid | None,
    params: Any,
) -> tuple[
    tuple[Float[Array, "scenes views h w c"], Float[Array, "scenes"]],
    tuple[Float[Array, "scenes"], Float[Array, "scenes"]],
]:
    """Renders all views in the prior's range and size, and sums the weighted regularizers."""
    render = functools.partial(render_views, stage, step)
    return jax.vmap(render)(keys, cameras, lights, grids, params)


def render_views(
    stage: Stage,
    step: Int[Array, ""],
    keys: Key[Array, "views"],
    cameras: Camera,
    lights: Light,
    grid: DensityGrid | None,
    params: Any,
) -> tuple[tuple[Float[Array, "views h w c"], Float[Array, ""]], tuple[Array, Array]]:
    """`render_scenes` of one scene."""
    rays = jax.vmap(lambda camera: cast_rays(camera, stage.image_size, stage.scene.radius))(cameras)
    background_keys, sample_keys = (
        jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (2, 3)
    )
    behind = functools.partial(background_colors, stage.scene, params)
    background = jax.vmap(behind)(rays.directions, background_keys)
    blur = stage.blur(step)
    image = render_rays(
        stage.scene, params, rays, lights, background, sample_keys, grid=grid, blur=blur
    )
    orientation = jnp.mean(image.orientation)
    penalties = stage.regularizers.orientation(step) * orientation
    penalties += stage.regularizers.opacity(step) * jnp.mean(opacity_penalty(image.opacity))
    penalties += stage.regularizers.entropy(step) * jnp.mean(entropy_penalty(image.opacity))
    penalties += stage.regularizers.transmittance(step, image.opacity)
    x = to_prior_range(stage.prior, image.rgb)
    return (x, penalties), (jnp.mean(image.opacity), orientation)


@jax.named_scope("mean_over_devices")
def mean_over_devices(tree: Any) -> Any:
    """The mean over AXIS of all arrays of a tree, as one message."""
    vector, restore = jax.flatten_util.ravel_pytree(tree)
    return restore(jax.lax.pmean(vector, AXIS))
