"""The turntable: colour, normals and depth of a scene, side by side, once around it."""

import math
import os
import warnings
from collections.abc import Callable

import imageio_ffmpeg
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.files import replacing
from dreamfusion_jax.export.images import (
    depth_colours,
    depth_range,
    normal_colours,
    over,
    sheet,
    to_uint8,
)
from dreamfusion_jax.export.views import Pictures, occupied_cells, render_views
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import point_light
from dreamfusion_jax.scene.render import Scene

_VIEWS_PER_CALL = 8  # rendered together: few enough for a smooth progress bar


def write_turntable(
    scene: Scene,
    params: dict,
    path: str | os.PathLike,
    *,
    frames: int = 48,
    size: int = 128,
    elevation: float = math.radians(15.0),
    distance: float = 1.5,
    focal: float = 1.1,
    frames_per_second: int = 16,
    shaded: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Writes an H.264 video that browsers play, 3 size x size pixels, on white.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      path: of the .mp4 file; an older one is replaced at once.
      frames: views, evenly spaced in azimuth from the front on, counter-clockwise.
      size: height in pixels of each of the three panels; made even.
      elevation: of the camera, radians.
      distance: of the camera from the origin.
      focal: focal length in image widths.
      frames_per_second: of the video.
      shaded: True lights the colour from above the camera; False shows the albedo.
      progress: called with the number of frames that are rendered.

    Raises:
      UserError: the field is not finite, or the file cannot be written.
    """
    size += size % 2
    occupied = occupied_cells(scene, params)
    azimuths = np.linspace(0.0, 2 * math.pi, frames, endpoint=False)
    outputs = []
    for start in range(0, frames, _VIEWS_PER_CALL):
        some = azimuths[start : start + _VIEWS_PER_CALL]
        outputs.append(
            _render(scene, params, some, occupied, size, elevation, distance, focal, shaded)
        )
        if progress is not None:
            progress(start + len(some))
    encode_video(_panels(outputs), path, frames_per_second)


def encode_video(
    images: UInt8[np.ndarray, "frames height width 3"],
    path: str | os.PathLike,
    frames_per_second: int,
) -> None:
    """Writes frames as H.264 in yuv420p (even height and width), with the index in front.

    Raises:
      UserError: the file cannot be written.
    """
    height, width = images.shape[1:3]
    with replacing(path) as temporary, warnings.catch_warnings():
        # JAX warns of any fork; ffmpeg is started in the child at once, which is safe.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
        try:
            writer = imageio_ffmpeg.write_frames(
                str(temporary),
                (width, height),
                fps=frames_per_second,
                codec="libx264",
                pix_fmt_out="yuv420p",
                macro_block_size=2,
                quality=None,
                output_params=["-crf", "16", "-movflags", "+faststart"],
            )
            writer.send(None)
            for image in images:
                writer.send(np.ascontiguousarray(image))
            writer.close()
        except RuntimeError as error:  # no ffmpeg binary for this platform
            raise UserError(
                f"Cannot encode {path}: no ffmpeg was found; install one or set IMAGEIO_FFMPEG_EXE."
            ) from error


def head_light(camera):
    """A light above each camera, so that shading shows the shape from every side."""
    up = 0.6 * camera.rotation[..., 1] - 0.4 * camera.rotation[..., 0]
    return camera.position + up


def _render(
    scene: Scene,
    params: dict,
    azimuths: Float[np.ndarray, "views"],
    occupied: Bool[np.ndarray, "n n n"],
    size: int,
    elevation: float,
    distance: float,
    focal: float,
    shaded: bool,
) -> Pictures:
    cameras = orbit_camera(jnp.asarray(azimuths), elevation, distance, focal)
    ambient, diffuse = (0.3, 0.7) if shaded else (1.0, 0.0)
    lights = point_light(head_light(cameras), ambient=ambient, diffuse=diffuse)
    return render_views(scene, params, cameras, size, occupied=occupied, lights=lights)


def _panels(outputs: list[Pictures]) -> UInt8[np.ndarray, "frames height width 3"]:
    solid = [(o.depth, o.opacity) for o in outputs]
    bounds = depth_range(*(np.concatenate(x) for x in zip(*solid, strict=True)))
    images = []
    for o in outputs:
        panels = (
            over(o.rgb, o.opacity),
            normal_colours(o.normals, o.opacity),
            depth_colours(o.depth, o.opacity, bounds),
        )
        images += [sheet([list(row)]) for row in zip(*map(to_uint8, panels), strict=True)]
    return np.stack(images)
