"""Paths of cameras around an object, by name or from a file."""

import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_json
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.types import Camera

PATHS = ("turntable", "swing", "spiral")
_SWING = math.radians(45.0)
_SPIRAL = math.radians(-10.0), math.radians(80.0)  # elevations
_KEYS = {"azimuth", "elevation", "distance", "focal"}


def camera_path(
    path: str, frames: int, *, elevation: float, distance: float, focal: float
) -> Camera:
    """Cameras that look at the origin, one for each frame.

    Args:
      path: "turntable" (once around, from the front on, counter-clockwise), "swing" (to and fro
        in front), "spiral" (once around and from below to above), or a .json file: a list of
        objects with azimuth and elevation in degrees and, where they differ from the defaults,
        distance and focal.
      frames: of a named path.
      elevation: of turntable and swing, radians.
      distance: from the origin.
      focal: focal length in image widths.

    Raises:
      UserError: there is no such path, or the file is not as described.
    """
    turn = np.arange(frames) / frames
    if path == "turntable":
        return orbit_camera(jnp.asarray(2 * math.pi * turn), elevation, distance, focal)
    if path == "swing":
        azimuth = _SWING * np.sin(2 * math.pi * turn)
        return orbit_camera(jnp.asarray(azimuth), elevation, distance, focal)
    if path == "spiral":
        low, high = _SPIRAL
        return orbit_camera(
            jnp.asarray(2 * math.pi * turn), jnp.asarray(low + (high - low) * turn), distance, focal
        )
    return _read_path(Path(path), distance, focal)


def _read_path(path: Path, distance: float, focal: float) -> Camera:
    if path.suffix != ".json":
        raise UserError(
            f"There is no camera path {str(path)!r}: choose {', '.join(PATHS)} or a .json file."
        )
    try:
        poses = read_json(path, (list, dict))
    except (OSError, ValueError) as error:
        raise UserError(f"The camera path {path} cannot be read: {error}.") from error
    known = isinstance(poses, list) and all(
        isinstance(pose, dict)
        and {"azimuth", "elevation"} <= set(pose) <= _KEYS
        and all(isinstance(v, int | float) and math.isfinite(v) for v in pose.values())
        for pose in poses
    )
    known = known and all(pose.get(key, 1) > 0 for pose in poses for key in ("distance", "focal"))
    if not known or not poses:
        raise UserError(
            f"The camera path {path} must be a list of objects with azimuth and elevation in "
            "degrees and, if wanted, positive distance and focal."
        )

    def column(name, default=None):
        return jnp.array([pose.get(name, default) for pose in poses], jnp.float32)

    angles = (jnp.radians(column(name)) for name in ("azimuth", "elevation"))
    return orbit_camera(*angles, column("distance", distance), column("focal", focal))
