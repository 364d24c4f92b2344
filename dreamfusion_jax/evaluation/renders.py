"""Renders of a scene as R-Precision looks at them."""

import dataclasses
import math

import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from dreamfusion_jax.export.frames import head_light
from dreamfusion_jax.export.images import over
from dreamfusion_jax.export.view_renderer import prepare_views, render_views
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import point_light

_WHITE_AMBIENT, _WHITE_DIFFUSE = 0.2, 0.8  # of textureless renders


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """How a run shows its object: cameras' distance and focal length, light."""

    distance: float
    focal: float
    ambient: float
    diffuse: float

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "ViewConfig":
        """Return what a run's config says."""
        camera, light = config.eval_camera, config.light
        return cls(camera.distance, camera.focal, light.ambient, light.diffuse)


@dataclasses.dataclass(frozen=True)
class EvalCameras:
    """Cameras around an object: how many, in equal steps from the first, and their elevation.

    Angles are in degrees; 0 is the front. The default is the paper's; Dream Fields and CLIP-Mesh
    take a single view from 45 degrees.
    """

    azimuths: int = 8
    elevation: float = 30.0
    first: float = 0.0


def scene_renders(
    scene: Scene,
    params: dict,
    look: ViewConfig,
    size: int,
    *,
    step: int = FINISHED,
    around: EvalCameras = EvalCameras(),
    background: float = 1.0,
    albedo: bool = False,
) -> dict[str, Float[np.ndarray, "views size size 3"]]:
    """Render in [0, 1] by kind: "color" (shaded), "geo" (textureless) and perhaps "albedo".

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      look: how it is shown.
      size: of the renders in pixels.
      step: of the run, for what is annealed.
      around: from where.
      background: the gray behind them.
      albedo: whether to render that too.
    """
    azimuths = math.radians(around.first) + jnp.arange(around.azimuths) * (
        2 * math.pi / around.azimuths
    )
    cameras = orbit_camera(azimuths, math.radians(around.elevation), look.distance, look.focal)
    light_position, prepared = head_light(cameras), prepare_views(scene, params, step)

    def render(ambient, diffuse, textureless):
        lights = point_light(
            light_position, ambient=ambient, diffuse=diffuse, textureless=textureless
        )
        return render_views(scene, params, cameras, size, lights=lights, prepared=prepared)

    shaded = render(look.ambient, look.diffuse, False)
    white = render(_WHITE_AMBIENT, _WHITE_DIFFUSE, True)
    found = {"color": over(shaded.rgb, shaded.opacity, background)}
    if albedo:
        found["albedo"] = over(shaded.albedo, shaded.opacity, background)
    return found | {"geo": over(white.rgb, white.opacity, background)}
