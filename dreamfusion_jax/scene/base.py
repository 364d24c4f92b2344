"""The contract of a scene: cameras and lights -> pixels."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from jaxtyping import Array, Float, Int, Key

from dreamfusion_jax import registry
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.types import Camera, FieldOutput, Light, RenderOutput, SurfaceMesh

# The step at which a scene is seen that is finished: after all that changes with steps.
FINISHED = 2**31 - 1
Step = int | Int[Array, ""]
SPACES = ("rgb", "latent")


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
    def draw(
        self,
        params: Any,
        cameras: Camera,
        lights: Light,
        *,
        image_size: int,
        step: Step = FINISHED,
    ) -> RenderOutput:
        """Return views over black, [views, image_size, image_size, ...]: nothing in them is random.

        Args:
          params: of the scene.
          cameras: a batch.
          lights: one for each.
          image_size: pixels a side.
          step: of the run, for what is annealed.
        """

    @abc.abstractmethod
    def at_points(
        self, params: Any, points: Float[Array, "points 3"], step: Step = FINISHED
    ) -> FieldOutput:
        """Return density and albedo at points, without normals."""

    def surface(self, params: Any) -> SurfaceMesh | None:
        """Return the triangles that the scene is made of; None: its surface is a density's."""
        return None

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


S = TypeVar("S", bound=Scene)


def scene_of_parts(cls: type[S], config: registry.Keys, parts: Sequence[str]) -> S:
    """Return a scene whose fields are `config.scene`'s keys, and some of these parts of a kind.

    `space` says what its pixels are: "rgb", or "latent" with a fourth channel.

    Raises:
      UserError: a key is missing, or a value makes no sense.
    """
    keys = {key: value for key, value in config.items() if key not in ("name", "space")}
    needed = (*(field.name for field in dataclasses.fields(cls)), "space")  # type: ignore[arg-type]
    if missing := [key for key in needed if key not in config]:
        raise UserError(f"scene has no {missing[0]!r}; it must have {', '.join(needed)}.")
    space = config["space"]
    if space not in SPACES:
        raise UserError(f"scene.space is {space!r}; choose one of {', '.join(SPACES)}.")
    channels = {"channels": 4 if space == "latent" else 3}
    for part in parts:
        more = {} if part == "sampler" else channels
        keys[part] = registry.build(part, config[part], f"scene.{part}", **more)
    return registry.make(cls, keys, "scene")


def build_scene(config: registry.Keys) -> Scene:
    """Return the scene of `config.scene`.

    Raises:
      UserError: there is no such scene, or a value makes no sense.
    """
    return registry.class_of("scene", config["name"]).from_config(config)
