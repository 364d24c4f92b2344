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
from dreamfusion_jax.scene.cameras import choose, sample_camera, turned
from dreamfusion_jax.scene.lights import sample_light
from dreamfusion_jax.train.stage import AXIS, Stage
from dreamfusion_jax.train.state import (
    REFRESH_STREAM,
    TrainState,
    refresh_scenes,
    update_guidance,
    update_scenes,
)
from dreamfusion_jax.types import Camera, Conditioning, Light, RenderedViews


def train_step(
    stage: Stage,
    state: TrainState,
    prior_params: Any,
    embeddings: dict[str, Conditioning],
    own_cameras: Camera | None,
    seed_keys: Key[Array, "scenes"],
    device_index: Int[Array, ""],
) -> tuple[TrainState, dict[str, Float[Array, "scenes"]]]:
    """Take one step of every scene, on `stage.views` views of each on this device.

    Scenes are independent of each other. All their images go through the prior in one
    batch; gradients are averaged over AXIS.
    """
    # A view's key depends on its number among all views, not on who renders it: the
    # same views are drawn on any number of devices.
    numbers = device_index * stage.views + jnp.arange(stage.views)
    keys = view_keys(seed_keys, numbers, state.step)
    cameras, lights = sample_views(stage, state.step, keys, own_cameras)
    render = functools.partial(
        render_scenes, stage, state.step, keys, cameras, lights, state.scene_state
    )
    (x, penalties), vjp, terms = jax.vjp(render, state.params, has_aux=True)

    seen = cameras.azimuth, cameras.elevation, lights.textureless
    rows = select_rows(embeddings, stage.view_prompts.index(*seen))
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
    metrics |= terms
    grads, grad_guidance, metrics = mean_over_devices((grads, grad_guidance, metrics))
    state = update_guidance(stage.guidance, grad_guidance, state)
    state = update_scenes(stage.optimizer, grads, state)
    state = refresh_scenes(stage.scene, state, refresh_keys(seed_keys, state))
    return state, metrics | {"gradient_norm": jax.vmap(optax.tree.norm)(grads)}


def view_keys(
    seed_keys: Key[Array, "scenes"], numbers: Int[Array, "views"], step: Int[Array, ""]
) -> Key[Array, "scenes views"]:
    """Return the key of each view of each scene at a step."""

    def key_of(seed_key, number):
        return jax.random.fold_in(jax.random.fold_in(seed_key, number), step)

    return jax.vmap(jax.vmap(key_of, (None, 0)), (0, None))(seed_keys, numbers)


def refresh_keys(seed_keys: Key[Array, "scenes"], state: TrainState) -> Key[Array, "scenes"]:
    """Return the keys of what is drawn once a step and scene, not for each view."""
    return view_keys(seed_keys, jnp.array([REFRESH_STREAM]), state.step)[:, 0]


def sample_views(
    stage: Stage,
    step: Int[Array, ""],
    keys: Key[Array, "scenes views"],
    own_cameras: Camera | None,
) -> tuple[Camera, Light]:
    """Draw the camera and the light of each view: of the prior's own cameras, if there are any.

    A group of views that the prior looks at together stands evenly around the scene.
    """
    group = stage.prior.view_group
    angles = 2 * jnp.pi / group * (jnp.arange(keys.shape[1]) % group)
    leaders = keys[:, jnp.arange(keys.shape[1]) // group * group]

    def one(own, key, leader, angle):
        camera_key = jax.random.fold_in(leader, 0)
        camera = (
            sample_camera(camera_key, stage.cameras) if own is None else choose(camera_key, own)
        )
        camera = camera if group == 1 else turned(camera, angle)
        return camera, sample_light(jax.random.fold_in(key, 1), camera, step, stage.lights)

    return jax.vmap(jax.vmap(one, (None, 0, 0, 0)), (0, 0, 0, None))(
        own_cameras, keys, leaders, angles
    )


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
    scene_state: Any,
    params: Any,
) -> tuple[
    tuple[Float[Array, "scenes views h w c"], Float[Array, "scenes"]],
    dict[str, Float[Array, "scenes"]],
]:
    """Render all views in the prior's range and size, and sums the weighted regularizers.

    Beside that it gives figures for the log: the opacity and each regularizer without its weight.
    """
    render = functools.partial(render_views, stage, step)
    return jax.vmap(render)(keys, cameras, lights, scene_state, params)


def render_views(
    stage: Stage,
    step: Int[Array, ""],
    keys: Key[Array, "views"],
    cameras: Camera,
    lights: Light,
    scene_state: Any,
    params: Any,
) -> tuple[tuple[Float[Array, "views h w c"], Float[Array, ""]], dict[str, Float[Array, ""]]]:
    """`render_scenes` of one scene."""
    views = stage.scene.render(
        params, cameras, lights, keys, step, image_size=stage.image_size, state=scene_state
    )
    figures, penalties = {"opacity": jnp.mean(views.opacity)}, jnp.zeros(())
    for name, regularizer in stage.regularizers:
        figures[f"loss/{name}"] = regularizer.of(views, step)
        penalties += regularizer(step) * figures[f"loss/{name}"]
    return (to_prior_range(stage.prior, views.rgb), penalties), figures


@jax.named_scope("mean_over_devices")
def mean_over_devices(tree: Any) -> Any:
    """Return the mean over AXIS of all arrays of a tree, as one message."""
    vector, restore = jax.flatten_util.ravel_pytree(tree)
    return restore(jax.lax.pmean(vector, AXIS))
