"""Paths of cameras around an object, by name or from a file."""

import math
from pathlib import Path
from typing import Any

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
    """Return cameras that look at the origin, one for each frame.

    Args:
      path: "turntable" (once around, from the front on, counter-clockwise), "swing" (to and fro
        in front), "spiral" (once around and from below to above), or a .json file: a list of
        objects with azimuth and elevation in degrees and, where they differ from the defaults,
        distance and focal; or a transforms.json, as `render` writes it.
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
    if path.suffix.lower() != ".json":
        raise UserError(
            f"There is no camera path {str(path)!r}: choose {', '.join(PATHS)} or a .json file."
        )
    try:
        found = read_json(path, (list, dict))
    except (OSError, ValueError) as error:
        raise UserError(f"The camera path {path} cannot be read: {error}.") from error
    if isinstance(found, dict):
        return _of_transforms(found, path)
    return _of_angles(found, path, distance, focal)


def _of_angles(poses: list, path: Path, distance: float, focal: float) -> Camera:
    known = all(
        isinstance(pose, dict)
        and {"azimuth", "elevation"} <= set(pose) <= _KEYS
        and all(_is_finite(v) for v in pose.values())
        for pose in poses
    )
    known = known and all(pose.get(key, 1) > 0 for pose in poses for key in ("distance", "focal"))
    if not known or not poses:
        raise UserError(
            f"The camera path {path} must be a list of objects with azimuth and elevation in "
            "degrees and, if wanted, positive distance and focal; or a transforms.json."
        )

    def column(name, default=None):
        return jnp.array([pose.get(name, default) for pose in poses], jnp.float32)

    azimuth, elevation = (jnp.radians(column(name)) for name in ("azimuth", "elevation"))
    return orbit_camera(azimuth, elevation, column("distance", distance), column("focal", focal))


def _of_transforms(found: dict, path: Path) -> Camera:
    """Return a transforms.json's cameras: matrices camera to world, focal lengths in pixels."""
    problem = UserError(
        f"The camera path {path} is no transforms.json that can be followed: each of its frames "
        "needs a transform_matrix of 4 x 4 numbers, a rotation and a place, and w and fl_x in "
        "pixels, or camera_angle_x, must be there."
    )
    frames = found.get("frames")
    if not (isinstance(frames, list) and frames and all(isinstance(f, dict) for f in frames)):
        raise problem
    try:
        matrices = np.array([frame["transform_matrix"] for frame in frames], float)
        focal = np.array([_focal(found | frame) for frame in frames], float)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise problem from error
    if matrices.shape != (len(frames), 4, 4) or not np.isfinite(matrices).all():
        raise problem
    rotation, position = matrices[:, :3, :3], matrices[:, :3, 3]
    products = rotation @ rotation.transpose(0, 2, 1)
    if not np.allclose(products, np.eye(3), atol=1e-3) or not (focal > 0).all():
        raise problem
    towards = position / np.maximum(np.linalg.norm(position, axis=-1, keepdims=True), 1e-9)
    return Camera(
        position=jnp.asarray(position, jnp.float32),
        rotation=jnp.asarray(rotation, jnp.float32),
        focal=jnp.asarray(focal, jnp.float32),
        azimuth=jnp.asarray(np.arctan2(towards[:, 1], towards[:, 0]), jnp.float32),
        elevation=jnp.asarray(np.arcsin(towards[:, 2]), jnp.float32),
    )


def _focal(about: dict) -> float:
    """Return the focal length in image widths."""
    if "fl_x" in about:
        return float(about["fl_x"]) / float(about["w"])
    return 0.5 / math.tan(0.5 * float(about["camera_angle_x"]))


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e9
