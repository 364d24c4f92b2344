"""From a config to the stage that the step is compiled for."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from dreamfusion_jax import registry
from dreamfusion_jax.diffusion.latent_colors import CHANNELS
from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.guidance.base import Guidance
from dreamfusion_jax.guidance.image_text_prior import ImageTextPrior
from dreamfusion_jax.optim.build import build_optimizer
from dreamfusion_jax.prompts.view_prompts import ViewPrompts
from dreamfusion_jax.registry import make
from dreamfusion_jax.scene.cameras import CameraDistribution
from dreamfusion_jax.scene.lights import LightDistribution
from dreamfusion_jax.scene.regularizers import Regularizers, Transmittance
from dreamfusion_jax.scene.render import Scene
from dreamfusion_jax.schedules import Ramp
from dreamfusion_jax.types import Camera

# Where views are taken from: as the paper draws them, or from where the prior has seen, if it says.
CAMERAS = RANDOM, OF_PRIOR = ("random", "of_prior")
AXIS = "batch"  # the mapped axis of devices
# The parts of a config that the compiled step depends on.
_PARTS = ("view_words", "scene", "camera", "light", "blur", "guidance", "regularizers", "optim")
_PARTS += ("train",)


@dataclasses.dataclass(frozen=True)
class Stage:
    """All that is fixed while a scene is optimized, up to step `until`; arrays are arguments."""

    scene: Scene
    cameras: CameraDistribution
    own_cameras: bool  # the prior's, where it has any
    lights: LightDistribution
    blur: Ramp
    prior: Prior | ImageTextPrior  # its architecture: the parameters are arguments
    view_prompts: ViewPrompts
    guidance: Guidance
    regularizers: Regularizers
    optimizer: optax.GradientTransformation
    image_size: int
    views: int  # of a scene, on each device
    devices: int  # over all hosts
    until: int  # the step at which the run ends, or its next stage begins


def make_stages(
    config: ml_collections.ConfigDict,
    prior_at: Callable[[int], Prior | ImageTextPrior],
    devices: int,
) -> list[Stage]:
    """The stages of a run, one after the other: the last steps may render larger views.

    Args:
      config: of the run.
      prior_at: gives the frozen model for views of so many pixels a side.
      devices: how many share the views of a step, over all hosts.

    Raises:
      UserError: a value of the config makes no sense.
    """
    _check_intervals(config.train)
    return [
        dataclasses.replace(
            make_stage(config, prior_at(size), devices), image_size=size, until=until
        )
        for size, until in _sizes(config.train)
    ]


def make_stage(
    config: ml_collections.ConfigDict, prior: Prior | ImageTextPrior, devices: int
) -> Stage:
    """Return everything that is fixed during a run at one size of the views.

    Of equal configs and architectures it is the same stage, so that its compiled programs are found
    again by the next run of this process.

    Args:
      config: of the run.
      prior: the frozen model.
      devices: how many share the views of a step, over all hosts. Where they cannot evenly there
        are more views, so that each device has equally many.

    Raises:
      UserError: a value of the config makes no sense.
    """
    parts = ml_collections.ConfigDict({name: config[name] for name in _PARTS})
    key = _Settings(parts.to_json(sort_keys=True), parts)
    return _make_stage(key, config.prior, prior.architecture(), devices)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """A part of a config, compared by what it says."""

    text: str
    config: ml_collections.ConfigDict = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=8)
def _make_stage(
    settings: _Settings, name: str, prior: Prior | ImageTextPrior, devices: int
) -> Stage:
    config = settings.config
    _check_intervals(config.train)
    regularizers, train = config.regularizers, config.train
    _one_of(
        "scene.background.kind", config.scene.background.kind, ("environment", "color", "textures")
    )
    _one_of("scene.color_space", config.scene.color_space, ("rgb", "latent"))
    if config.scene.color_space == "latent" and prior.latent_shape[-1] != CHANNELS:
        raise UserError(
            f"scene.color_space is 'latent', but the prior {name!r} works on images "
            "themselves; choose 'rgb', or a prior like Stable Diffusion."
        )
    _one_of("camera.name", config.camera.name, CAMERAS)
    if config.scene.radius <= 0:
        raise UserError(f"scene.radius is {config.scene.radius}; it must be above 0.")
    _check_draws("camera", config.camera)
    _check_draws("light", config.light)
    targets = regularizers.transmittance.start, regularizers.transmittance.end
    if not all(0 <= target < 1 for target in targets):
        raise UserError(f"regularizers.transmittance is {targets}; both must lie within [0, 1).")
    camera = {key: value for key, value in config.camera.items() if key != "name"}
    return Stage(
        scene=Scene.from_config(config.scene),
        cameras=make(CameraDistribution, camera, "camera"),
        own_cameras=config.camera.name == OF_PRIOR,
        lights=make(LightDistribution, config.light, "light"),
        blur=make(Ramp, config.blur, "blur"),
        prior=prior,
        view_prompts=ViewPrompts(config.view_words),
        guidance=build_guidance(config),
        regularizers=Regularizers(
            orientation=make(Ramp, regularizers.orientation, "regularizers.orientation"),
            opacity=make(Ramp, regularizers.opacity, "regularizers.opacity"),
            entropy=make(Ramp, regularizers.entropy, "regularizers.entropy"),
            transmittance=Transmittance(**regularizers.transmittance),
        ),
        optimizer=build_optimizer(config.optim, train.steps, batch_axis_name=AXIS),
        image_size=train.image_size,
        views=math.ceil(train.views / devices),
        devices=devices,
        until=train.steps,
    )


def own_cameras(prior: Prior | ImageTextPrior, prompts: Sequence[str]) -> Camera | None:
    """The cameras of what a prior has seen of each prompt, repeated to be equally many.

    None where it cannot tell: then cameras are drawn.
    """
    seen = [prior.cameras(prompt) for prompt in prompts]
    if not seen or any(cameras is None for cameras in seen):
        return None
    most = max(len(cameras.focal) for cameras in seen)
    index = [np.resize(np.arange(len(cameras.focal)), most) for cameras in seen]
    chosen = [jax.tree.map(lambda x, i=i: x[i], c) for c, i in zip(seen, index, strict=True)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *chosen)


def build_guidance(config: ml_collections.ConfigDict) -> Guidance:
    """Return the guidance of `config.guidance`; a ramp of 0 steps takes the whole run.

    Raises:
      UserError: there is no such guidance, or it refuses a value.
    """
    keys = {key: _over_the_run(value, config.train.steps) for key, value in config.guidance.items()}
    return registry.build("guidance", keys, "guidance")


def _over_the_run(value: Any, steps: int) -> Any:
    is_ramp = isinstance(value, ml_collections.ConfigDict) and value.get("steps") == 0
    return value.to_dict() | {"steps": steps} if is_ramp else value


def _sizes(train: ml_collections.ConfigDict) -> list[tuple[int, int]]:
    """The sizes of the views in their order, each with the step at which it ends."""
    larger, starts = train.larger_image_sizes, train.larger_from
    if len(larger) != len(starts) or not all(0 <= share <= 1 for share in starts):
        raise UserError(
            f"train.larger_from is {starts}; give a share of the steps, within [0, 1], for each of "
            f"train.larger_image_sizes, {larger}."
        )
    sizes = [train.image_size, *larger]
    if sizes != sorted(set(sizes)) or list(starts) != sorted(starts):
        raise UserError(
            f"train.larger_image_sizes {larger} must grow from train.image_size, "
            f"{train.image_size}, and train.larger_from {starts} with them."
        )
    # A whole number of calls of the compiled program.
    calls = (round(train.steps * share / train.steps_per_call) for share in starts)
    ends = [min(count * train.steps_per_call, train.steps) for count in calls] + [train.steps]
    begins = [0, *ends[:-1]]
    return [
        (size, end) for size, begin, end in zip(sizes, begins, ends, strict=True) if begin < end
    ]


def _check_intervals(train: ml_collections.ConfigDict) -> None:
    """Checkpoints and previews happen between calls of the compiled program."""
    for name in ("steps", "scenes", "views", "image_size", "steps_per_call"):
        if train[name] < 1:
            raise UserError(f"train.{name} is {train[name]}; it must be at least 1.")
    for name in ("checkpoint_every", "preview_every"):
        if train[name] < 1 or train[name] % train.steps_per_call:
            raise UserError(
                f"train.{name} is {train[name]}; it must be a positive multiple of "
                f"train.steps_per_call, {train.steps_per_call}."
            )


def _check_draws(name: str, distribution: ml_collections.ConfigDict) -> None:
    """Ranges and probabilities that can be drawn from."""
    for key, value in distribution.items():
        if key.endswith("_range") and value[0] > value[1]:
            raise UserError(
                f"{name}.{key} is {value}; the first number must not be larger (angles may be "
                "negative, or above 360)."
            )
        if key.endswith("_probability") and not 0 <= value <= 1:
            raise UserError(f"{name}.{key} is {value}; it must lie within [0, 1].")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")
