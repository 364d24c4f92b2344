"""From a config to the stages that the step is compiled for."""

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
from dreamfusion_jax.config import StageConfig, stage_configs
from dreamfusion_jax.diffusion.latent_colors import CHANNELS
from dreamfusion_jax.diffusion.prior import FrozenModel
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.guidance.base import Guidance
from dreamfusion_jax.optim.build import build_optimizer
from dreamfusion_jax.prompts.view_prompts import ViewPrompts
from dreamfusion_jax.registry import make
from dreamfusion_jax.scene.base import Scene, build_scene
from dreamfusion_jax.scene.cameras import CameraDistribution
from dreamfusion_jax.scene.convert import Convert
from dreamfusion_jax.scene.lights import LightDistribution
from dreamfusion_jax.scene.regularizers import Regularizer, build_regularizers
from dreamfusion_jax.types import Camera

# Where views are taken from: as the paper draws them, or from where the prior has seen, if it says.
CAMERAS = RANDOM, OF_PRIOR = ("random", "of_prior")
AXIS = "batch"  # the mapped axis of devices
# The parts of a config that the compiled step depends on.
_PARTS = ("prompt", "scene", "camera", "light", "guidance", "regularizers", "optim", "train")


@dataclasses.dataclass(frozen=True)
class Stage:
    """All that is fixed from step `begin` up to step `until`; arrays are arguments.

    A stage that `restarts` has an optimizer of its own, which knows nothing of the steps before;
    `convert` makes its scene's parameters, None takes those that there are.
    """

    scene: Scene
    cameras: CameraDistribution
    own_cameras: bool  # the prior's, where it has any
    lights: LightDistribution
    prior: FrozenModel  # its architecture: the parameters are arguments
    view_prompts: ViewPrompts
    guidance: Guidance
    regularizers: tuple[tuple[str, Regularizer], ...]
    optimizer: optax.GradientTransformation
    image_size: int
    views: int  # of a scene, on each device
    devices: int  # over all hosts
    begin: int
    until: int
    restarts: bool = False
    convert: Convert | None = None


def make_stages(
    config: ml_collections.ConfigDict, prior_at: Callable[[int], FrozenModel], devices: int
) -> list[Stage]:
    """Return the stages of a run, one after the other.

    Of equal configs and architectures they are the same, so that compiled programs are found again
    by the next run of this process.

    Args:
      config: of the run.
      prior_at: gives the frozen model for views of so many pixels a side.
      devices: how many share the views of a step, over all hosts. Where they cannot evenly there
        are more views, so that each device has equally many.

    Raises:
      UserError: a value of the config makes no sense.
    """
    _check_intervals(config.train)
    found = stage_configs(config)
    restarts = [i for i, stage in enumerate(found) if i == 0 or _restarts(found[i - 1], stage)]
    stages = []
    for i, stage in enumerate(found):
        first = max(j for j in restarts if j <= i)
        last = min((j for j in restarts if j > i), default=len(found))
        length = found[last - 1].until - found[first].begin  # that the optimizer lives
        prior = prior_at(stage.config.train.image_size).architecture()
        made = _make_stage(_settings(stage), config.prior.name, prior, devices, length)
        stages.append(dataclasses.replace(made, restarts=i in restarts))
    for before, after in zip(stages, stages[1:], strict=False):
        if after.convert is None and _shapes(before.scene) != _shapes(after.scene):
            raise UserError(
                "A stage has a scene with other parameters than the one before: say how they are "
                'made, for example with stages.NAME.convert.name = "fit".'
            )
    return stages


def make_stage(config: ml_collections.ConfigDict, prior: FrozenModel, devices: int) -> Stage:
    """Return the first stage of a run, see `make_stages`."""
    return make_stages(config, lambda size: prior, devices)[0]


def stage_of(stages: Sequence[Stage], step: int) -> Stage:
    """Return the stage whose state there is after a number of steps."""
    return next(stage for stage in stages if step <= stage.until)


def scene_of(config: ml_collections.ConfigDict, step: int) -> Scene:
    """Return the scene of a run after a number of steps.

    Raises:
      UserError: a value of the config makes no sense.
    """
    stages = stage_configs(config)
    own = next((stage for stage in stages if step <= stage.until), stages[-1])
    return build_scene(own.config.scene)


def _restarts(before: StageConfig, after: StageConfig) -> bool:
    """Return whether a stage's optimizer begins anew: old momentum would move what is now fixed."""
    changes = (before.config[part] != after.config[part] for part in ("optim", "scene"))
    return after.convert is not None or any(changes)


def _shapes(scene: Scene) -> Any:
    shapes = jax.eval_shape(scene.init, jax.random.key(0))
    return jax.tree.structure(shapes), [leaf.shape for leaf in jax.tree.leaves(shapes)]


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The parts of a stage's config that matter, compared by what they say."""

    text: str
    stage: StageConfig = dataclasses.field(compare=False)


def _settings(stage: StageConfig) -> _Settings:
    parts = {name: stage.config[name] for name in _PARTS}
    parts |= {"begin": stage.begin, "until": stage.until, "convert": stage.convert}
    return _Settings(ml_collections.ConfigDict(parts).to_json(sort_keys=True), stage)


@functools.lru_cache(maxsize=8)
def _make_stage(
    settings: _Settings, name: str, prior: FrozenModel, devices: int, length: int
) -> Stage:
    stage, config = settings.stage, settings.stage.config
    train, views = config.train, math.ceil(config.train.batch_size / devices)
    _check_intervals(train)
    scene = build_scene(config.scene)
    if scene.channels == CHANNELS and prior.latent_shape[-1] != CHANNELS:
        raise UserError(
            f"scene.space is 'latent', but the prior {name!r} works on images themselves; choose "
            "'rgb', or a prior like Stable Diffusion."
        )
    _one_of("camera.name", config.camera.name, CAMERAS)
    _check_draws("camera", config.camera)
    _check_draws("light", config.light)
    camera = {key: value for key, value in config.camera.items() if key != "name"}
    convert = stage.convert and registry.build("convert", stage.convert, "stages.NAME.convert")
    return Stage(
        scene=scene,
        cameras=make(CameraDistribution, camera, "camera"),
        own_cameras=config.camera.name == OF_PRIOR,
        lights=make(LightDistribution, config.light, "light"),
        prior=prior,
        view_prompts=ViewPrompts(
            config.prompt.view_words, config.prompt.get("textureless_words", "")
        ),
        guidance=build_guidance(config),
        regularizers=build_regularizers(config.regularizers),
        optimizer=build_optimizer(config.optim, length, batch_axis_name=AXIS),
        image_size=train.image_size,
        views=math.ceil(views / prior.view_group) * prior.view_group,
        devices=devices,
        begin=stage.begin,
        until=stage.until,
        convert=convert,
    )


def own_cameras(prior: FrozenModel, prompts: Sequence[str]) -> Camera | None:
    """Return the cameras of what a prior has seen of each prompt, repeated to be equally many.

    None where it cannot tell: then cameras are drawn.
    """
    seen = [cameras for p in prompts if (cameras := prior.cameras(p)) is not None]
    if not seen or len(seen) < len(prompts):
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


def _check_intervals(train: ml_collections.ConfigDict) -> None:
    """Checkpoints and previews happen between calls of the compiled program."""
    for name in ("steps", "scenes_per_batch", "batch_size", "image_size", "steps_per_call"):
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
