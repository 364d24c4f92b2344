"""One picture that shows color and shape of a scene from four sides."""

import math

import jax.numpy as jnp
import PIL.Image

from dreamfusion_jax.export.frames import head_light
from dreamfusion_jax.export.images import normal_colors, over, sheet, to_uint8
from dreamfusion_jax.export.view_renderer import render_views
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import point_light

_CLAY = 0.85  # a little darker than the white background


def preview_grid(
    scene: Scene,
    params: dict,
    *,
    step: int = FINISHED,
    size: int = 96,
    azimuths: tuple[float, ...] = (math.pi / 6, math.pi * 2 / 3, math.pi * 7 / 6, math.pi * 5 / 3),
    elevation: float = math.radians(15.0),
    distance: float = 1.5,
    focal: float = 1.1,
) -> PIL.Image.Image:
    """Render albedo, textureless shading and normals (rows) from some azimuths (columns).

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      step: of the run, for what is annealed.
      size: width and height of each picture in pixels.
      azimuths: of the cameras, radians, 0 is the front.
      elevation: of the cameras, radians.
      distance: of the cameras from the origin.
      focal: focal length in image widths.

    Raises:
      UserError: the field is not finite.
    """
    cameras = orbit_camera(jnp.array(azimuths), elevation, distance, focal)
    lights = point_light(head_light(cameras), ambient=0.1, diffuse=0.9, textureless=True)
    o = render_views(scene, params, cameras, size, lights=lights, step=step)
    rows = (
        over(o.albedo, o.opacity),
        over(_CLAY * o.rgb, o.opacity),
        normal_colors(o.normals, o.opacity),
    )
    return PIL.Image.fromarray(sheet([list(to_uint8(row)) for row in rows]))
