"""From a config to the task that the step is compiled for."""

import dataclasses

import ml_collections

from dreamfusion_jax.diffusion.prior import Prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.guidance.sds import LOSSES, WEIGHTINGS, Guidance
from dreamfusion_jax.optim.build import build_optimizer
from dreamfusion_jax.prompts.views import ViewPrompts
from dreamfusion_jax.scene.cameras import CameraDistribution
from dreamfusion_jax.scene.lights import LightDistribution
from dreamfusion_jax.scene.regularisers import Regularisers
from dreamfusion_jax.scene.render import Scene
from dreamfusion_jax.scene.schedules import Ramp
from dreamfusion_jax.train.parallel import views_per_device
from dreamfusion_jax.train.step import AXIS, Task


def make_task(config: ml_collections.ConfigDict, prior: Prior, image_size: int) -> Task:
    """Builds everything that is fixed during a run.

    Raises:
      UserError: a value of the config makes no sense.
    """
    guidance, regularisers, train = config.guidance, config.regularisers, config.train
    _one_of("guidance.loss", guidance.loss, tuple(LOSSES))
    _one_of("guidance.weighting", guidance.weighting, WEIGHTINGS)
    _one_of("scene.background.kind", config.scene.background.kind, ("environment", "colour"))
    if not 0 <= guidance.t_min < min(guidance.t_max, guidance.t_max_end) <= 1:
        raise UserError(
            f"guidance.t_min {guidance.t_min} must lie below t_max {guidance.t_max} and "
            f"t_max_end {guidance.t_max_end}, all within [0, 1]."
        )
    return Task(
        scene=Scene.from_config(config.scene),
        cameras=CameraDistribution(**config.camera),
        lights=LightDistribution(**config.light),
        blur=Ramp(**config.blur),
        prior=prior,
        view_prompts=ViewPrompts(guidance.view_words),
        guidance=Guidance(
            loss=guidance.loss,
            weight=guidance.weight,
            t_min=guidance.t_min,
            t_max=Ramp(guidance.t_max, guidance.t_max_end, train.steps),
            weighting=guidance.weighting,
        ),
        regularisers=Regularisers(
            orientation=Ramp(**regularisers.orientation),
            opacity=Ramp(**regularisers.opacity),
            entropy=Ramp(**regularisers.entropy),
        ),
        optimizer=build_optimizer(config.optim, train.steps, batch_axis_name=AXIS),
        image_size=image_size,
        views=views_per_device(train.views),
    )


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run that one program serves: the steps up to `end`."""

    end: int
    task: Task


def make_stages(config: ml_collections.ConfigDict, prior: Prior, final_prior: Prior) -> list[Stage]:
    """Most of a run at train.image_size, its last steps at train.final_image_size."""
    train = config.train
    first = Stage(train.steps - train.final_steps, make_task(config, prior, train.image_size))
    last = Stage(train.steps, make_task(config, final_prior, train.final_image_size))
    return [stage for stage in (first, last) if train.final_steps or stage is first]


def check_intervals(train: ml_collections.ConfigDict) -> None:
    """Checkpoints and previews happen between calls of the compiled program.

    Raises:
      UserError: an interval is not a multiple of train.steps_per_call, or a count < 1.
    """
    for name in ("steps", "image_size", "steps_per_call"):
        if train[name] < 1:
            raise UserError(f"train.{name} is {train[name]}; it must be at least 1.")
    if not 0 <= train.final_steps <= train.steps or train.final_image_size < 1:
        raise UserError(
            f"train.final_steps is {train.final_steps} and train.final_image_size "
            f"{train.final_image_size}; the first must lie within 0 and train.steps, "
            f"{train.steps}, the second be at least 1."
        )
    counts = {name: train[name] for name in ("checkpoint_every", "preview_every")}
    if train.final_steps:
        counts["steps - train.final_steps"] = train.steps - train.final_steps
    for name, count in counts.items():
        if count < 1 or count % train.steps_per_call:
            raise UserError(
                f"train.{name} is {count}; it must be a positive multiple of "
                f"train.steps_per_call, {train.steps_per_call}."
            )


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")
