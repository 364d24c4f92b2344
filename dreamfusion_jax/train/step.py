"""One step of score distillation, in the order of the paper's Algorithm (section 3.2)."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax.diffusion.cfg import to_model_range
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.guidance.sds import Guidance
from dreamfusion_jax.prompts.views import ViewPrompts, select_rows
from dreamfusion_jax.scene.cameras import CameraDistribution, sample_camera
from dreamfusion_jax.scene.lights import LightDistribution, sample_light
from dreamfusion_jax.scene.rays import cast_rays
from dreamfusion_jax.scene.regularisers import Regularisers, entropy_penalty, opacity_penalty
from dreamfusion_jax.scene.render import Scene, background_colours, render_rays
from dreamfusion_jax.scene.schedules import Ramp
from dreamfusion_jax.train.state import TrainState
from dreamfusion_jax.types import Camera, Light, TextEmbeddings

AXIS = "batch"  # the mapped axis of devices


@dataclasses.dataclass(frozen=True)
class Task:
    """All that is fixed while a scene is optimised; arrays come in as arguments."""

    scene: Scene
    cameras: CameraDistribution
    lights: LightDistribution
    blur: Ramp
    prior: Prior
    view_prompts: ViewPrompts
    guidance: Guidance
    regularisers: Regularisers
    optimizer: optax.GradientTransformation
    image_size: int
    views: int  # on each device


def train_step(
    task: Task,
    state: TrainState,
    prior_params: Any,
    embeddings: TextEmbeddings,
    seed_key: Key[Array, ""],
    device_index: Int[Array, ""],
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Takes one step on `task.views` views of this device; gradients are averaged over AXIS."""
    # A view's key depends on its number among all views, not on who renders it: the
    # same views are drawn on any number of devices.
    numbers = device_index * task.views + jnp.arange(task.views)
    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.fold_in(seed_key, n), state.step))(
        numbers
    )
    cameras, lights = jax.vmap(functools.partial(sample_view, task, state.step))(keys)
    render = functools.partial(render_views, task, state.step, keys, cameras, lights)
    (x, penalties), vjp, (opacity, orientation) = jax.vjp(render, state.params, has_aux=True)

    rows = select_rows(embeddings, task.view_prompts.index(cameras.azimuth, cameras.elevation))
    guidance_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 4)
    grad_x, aux = task.guidance.gradient(
        task.prior, prior_params, x, rows, guidance_keys, state.step
    )
    pixels = x.shape[0] * x.shape[1] * x.shape[2]
    (grads,) = vjp((grad_x / pixels, jnp.ones_like(penalties)))

    grads = jax.lax.pmean(grads, AXIS)
    updates, opt_state = task.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "residual": jnp.mean(aux.residual),
        "opacity": opacity,
        "orientation": orientation,
    }
    metrics = jax.lax.pmean(metrics, AXIS) | {"gradient_norm": optax.global_norm(grads)}
    return TrainState(state.step + 1, params, opt_state), metrics


def sample_view(task: Task, step: Int[Array, ""], key: Key[Array, ""]) -> tuple[Camera, Light]:
    """Draws the camera and the light of one view."""
    camera = sample_camera(jax.random.fold_in(key, 0), task.cameras)
    return camera, sample_light(jax.random.fold_in(key, 1), camera, step, task.lights)


def render_views(
    task: Task,
    step: Int[Array, ""],
    keys: Key[Array, "views"],
    cameras: Camera,
    lights: Light,
    params: Any,
) -> tuple[tuple[Float[Array, "views h w 3"], Float[Array, ""]], tuple[Array, Array]]:
    """Renders all views in the prior's range and size, and sums the weighted regularisers."""
    rays = jax.vmap(lambda camera: cast_rays(camera, task.image_size, task.scene.radius))(cameras)
    background_keys, sample_keys = (
        jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (2, 3)
    )
    behind = functools.partial(background_colours, task.scene, params)
    background = jax.vmap(behind)(rays.directions, background_keys)
    blur = task.blur(step)
    image = render_rays(task.scene, params, rays, lights, background, sample_keys, blur=blur)
    orientation = jnp.mean(image.orientation)
    penalties = task.regularisers.orientation(step) * orientation
    penalties += task.regularisers.opacity(step) * jnp.mean(opacity_penalty(image.opacity))
    penalties += task.regularisers.entropy(step) * jnp.mean(entropy_penalty(image.opacity))
    rgb = jax.image.resize(image.rgb, (task.views, *task.prior.image_shape), "linear")
    return (to_model_range(rgb), penalties), (jnp.mean(image.opacity), orientation)
