"""How a config says that a finished scene is looked at and written."""

import math
from typing import Any

import ml_collections

from dreamfusion_jax.errors import UserError


def view_settings(camera: ml_collections.ConfigDict) -> dict[str, Any]:
    """Return the renderers' keyword arguments elevation (radians), distance and focal."""
    return {
        "elevation": math.radians(camera.elevation),
        "distance": camera.distance,
        "focal": camera.focal,
    }


def check_export(export: ml_collections.ConfigDict, camera: ml_collections.ConfigDict) -> None:
    """Raise UserError for settings that could not be met, before anything is optimized."""
    if camera.distance <= 0 or camera.focal <= 0:
        raise UserError(
            f"eval_camera.distance is {camera.distance} and eval_camera.focal {camera.focal}; both "
            "must be above 0."
        )
    check_images(export.turntable_frames, export.turntable_size)
    check_mesh(export.mesh_resolution, export.triangles, export.texture_size)


def check_images(frames: int, size: int) -> None:
    """Raise UserError for pictures that cannot be rendered."""
    if frames < 1 or not 8 <= size <= 4096:
        raise UserError(f"frames {frames} must be at least 1 and size {size} within 8 and 4096.")


def check_mesh(resolution: int, triangles: int, texture_size: int) -> None:
    """Raise UserError for a mesh that cannot be made; 0 triangles are any number."""
    if not 8 <= resolution <= 1024:
        raise UserError(f"The mesh resolution is {resolution}; it must be within 8 and 1024.")
    if triangles != 0 and triangles < 100:
        raise UserError(f"The triangle budget is {triangles}; it must be 0 (all) or at least 100.")
    if not 64 <= texture_size <= 8192:
        raise UserError(f"The texture size is {texture_size}; it must be within 64 and 8192.")


def mesh_memory(resolution: int, texture_size: int) -> float:
    """Return about how many GB a mesh takes to make, as measured with the shipped prior's scenes.

    The surface and the texture are worked on in parts, one after the other; what grows is their
    result.
    """
    return 0.6 + max(1.1 * (resolution / 1024) ** 2, 0.8 * (texture_size / 8192) ** 2)
