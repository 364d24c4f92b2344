"""The contract of a scene: cameras and lights -> pixels."""

import abc
from typing import Any

from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax import registry
from dreamfusion_jax.types import Camera, FieldOutput, Light, RenderOutput

# The step at which a scene is seen that is finished: after all that changes with steps.
FINISHED = 2**31 - 1
Step = int | Int[Array, ""]


class Scene(abc.ABC):
    """The modules and numbers of a scene; its parameters are arguments of its functions.

    A class of its own is registered with `@register("scene", NAME)`, and `from_config` makes it of
    `config.scene`. Scenes are hashable: programs are compiled for them.
    """

    radius: float  # of the bounding sphere: nothing is seen outside

    @classmethod
    def from_config(cls, config: registry.Keys) -> "Scene":
        """Return the scene that `config.scene` describes.

        Raises:
          UserError: a value makes no sense.
        """
        return registry.build("scene", config, "scene")

    @property
    @abc.abstractmethod
    def channels(self) -> int:
        """What a pixel has: 3 colors, or 4 where it is rendered as latents."""

    @abc.abstractmethod
    def init(self, key: Key[Array, ""]) -> Any:
        """Return fresh parameters."""

    @abc.abstractmethod
    def render(
        self,
        params: Any,
        cameras: Camera,
        lights: Light,
        keys: Key[Array, "views"],
        step: Step,
        *,
        image_size: int,
        state: Any = None,
    ) -> RenderOutput:
        """Return training views, [views, image_size, image_size, ...], over their backgrounds.

        Args:
          params: of the scene.
          cameras: a batch.
          lights: one for each.
          keys: draw what is random in each.
          step: of the run, for all that is annealed.
          image_size: pixels a side.
          state: what `initial_state` and `refresh` have made.
        """

    @abc.abstractmethod
    def at_points(
        self, params: Any, points: Float[Array, "points 3"], step: Step = FINISHED
    ) -> FieldOutput:
        """Return density and albedo at points, without normals."""

    def initial_state(self, params: Any) -> Any:
        """Return what is kept beside the parameters, as a grid of the density; None is nothing."""
        return None

    def refresh(self, state: Any, params: Any, step: Step, key: Key[Array, ""]) -> Any:
        """Return what is kept, after a look at new parameters."""
        return state

    @property
    def refresh_every(self) -> int:
        """Steps between two calls of `refresh`; 0 is never."""
        return 0


def build_scene(config: registry.Keys) -> Scene:
    """Return the scene of `config.scene`.

    Raises:
      UserError: there is no such scene, or a value makes no sense.
    """
    return registry.class_of("scene", config["name"]).from_config(config)
