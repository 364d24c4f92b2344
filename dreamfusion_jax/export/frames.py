"""What a finished scene looks like: its color, shape, depth, under a light of one's choice."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.images import (
    depth_colors,
    depth_range,
    normal_colors,
    over,
    sheet,
    to_uint8,
)
from dreamfusion_jax.export.view_renderer import RenderedImages, prepare_views, render_views
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.scene.cameras import spherical_to_cartesian
from dreamfusion_jax.scene.lights import point_light
from dreamfusion_jax.types import Camera

KINDS = ("color", "shaded", "textureless", "normals", "depth", "opacity")
_OF_SHAPE = {"shaded", "textureless", "normals"}  # these need the field's gradient
_PIXELS_PER_CALL = 2**20  # of views that are rendered together, at most _VIEWS_PER_CALL
_VIEWS_PER_CALL = 8  # few enough for a smooth progress bar
_LIGHT_DISTANCE = 1.5


@dataclasses.dataclass(frozen=True)
class Lighting:
    """A point light and an ambient one; colors are RGB factors of the albedo.

    `direction` is azimuth and elevation in radians; None puts the light above each camera.
    """

    direction: tuple[float, float] | None = None
    color: tuple[float, float, float] = (0.7, 0.7, 0.7)
    ambient: tuple[float, float, float] = (0.3, 0.3, 0.3)


@dataclasses.dataclass(frozen=True)
class Frame:
    """One view; everything but the opacity is premultiplied by it and lies over black.

    `color` is the albedo, `shaded` and `textureless` are lit (None where not asked for),
    `normals` are in the world frame, `depth` is the distance along the ray.
    """

    color: Float[np.ndarray, "size size 3"]
    shaded: Float[np.ndarray, "size size 3"] | None
    textureless: Float[np.ndarray, "size size 3"] | None
    normals: Float[np.ndarray, "size size 3"]
    depth: Float[np.ndarray, "size size"]
    opacity: Float[np.ndarray, "size size"]


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise UserError for what cannot be shown."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UserError(f"{', '.join(unknown) or 'Nothing'} cannot be shown: {', '.join(KINDS)}.")


def render_frames(
    scene: Scene,
    params: dict,
    cameras: Camera,
    size: int,
    kinds: Sequence[str],
    *,
    lighting: Lighting = Lighting(),
    progress: Callable[[int], None] | None = None,
    **settings: Any,
) -> Iterator[Frame]:
    """Render views one after the other.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      cameras: a batch of views.
      size: width and height in pixels.
      kinds: what will be shown, of KINDS.
      lighting: of what is shaded.
      progress: called with the number of views that are rendered.
      **settings: step, prepared, chunk and before_chunk of `render_views`.

    Raises:
      UserError: the field is not finite.
    """
    check_kinds(kinds)
    if settings.get("prepared") is None:
        settings["prepared"] = prepare_views(scene, params, settings.pop("step", FINISHED))
    settings["normals"] = bool(_OF_SHAPE & set(kinds))
    count = cameras.focal.shape[0]
    lit_kinds = [kind for kind in ("shaded", "textureless") if kind in kinds] or ["shaded"]
    together = min(max(_PIXELS_PER_CALL // size**2, 1), _VIEWS_PER_CALL)
    for start in range(0, count, together):
        some = jax.tree.map(lambda x, i=start: x[i : i + together], cameras)
        position = _light_position(some, lighting)
        lit = {}
        for kind in lit_kinds:
            # Light is linear: a white light alone gives every color of it.
            light = point_light(position, ambient=0, diffuse=1, textureless=kind == "textureless")
            lit[kind] = render_views(scene, params, some, size, lights=light, **settings)
        yield from _frames(lit, kinds, lighting)
        if progress is not None:
            progress(min(start + together, count))


def head_light(camera: Camera):
    """Return a light above each camera, so that shading shows the shape from every side."""
    up = 0.6 * camera.rotation[..., 1] - 0.4 * camera.rotation[..., 0]
    return camera.position + up


def _light_position(cameras: Camera, lighting: Lighting):
    if lighting.direction is None:
        return head_light(cameras)
    azimuth, elevation = (jnp.full(cameras.focal.shape, x) for x in lighting.direction)
    return spherical_to_cartesian(azimuth, elevation, jnp.full(azimuth.shape, _LIGHT_DISTANCE))


def _frames(
    lit: dict[str, RenderedImages], kinds: Sequence[str], lighting: Lighting
) -> Iterator[Frame]:
    first = next(iter(lit.values()))
    ambient, color = (np.array(x, np.float32) for x in (lighting.ambient, lighting.color))
    whites = np.repeat(first.opacity[..., None], 3, -1)
    own = {"shaded": first.albedo, "textureless": whites}
    shown = {kind: ambient * own[kind] + color * lit[kind].rgb for kind in lit if kind in kinds}
    for i in range(len(first.opacity)):
        yield Frame(
            color=first.albedo[i],
            shaded=shown["shaded"][i] if "shaded" in shown else None,
            textureless=shown["textureless"][i] if "textureless" in shown else None,
            normals=first.normals[i],
            depth=first.depth[i],
            opacity=first.opacity[i],
        )


def panels(
    frames: Sequence[Frame], kinds: Sequence[str], *, transparent: bool = False
) -> list[UInt8[np.ndarray, "size width channels"]]:
    """Return pictures of frames, the kinds side by side, on white or with straight alpha.

    Depth has the same colors in all frames: light is near, dark is far.
    """
    bounds = depth_range(np.stack([f.depth for f in frames]), np.stack([f.opacity for f in frames]))
    return [
        sheet([[_panel(frame, kind, bounds, transparent) for kind in kinds]]) for frame in frames
    ]


def _panel(
    frame: Frame, kind: str, bounds: tuple[float, float], transparent: bool
) -> UInt8[np.ndarray, "size size channels"]:
    opacity = frame.opacity[..., None]
    if kind == "opacity":
        alpha = np.ones_like(opacity)
        rgb = np.repeat(opacity, 3, -1)
    else:
        alpha = opacity
        if kind == "normals":
            rgb = normal_colors(frame.normals, frame.opacity)
        elif kind == "depth":
            rgb = depth_colors(frame.depth, frame.opacity, bounds)
        else:
            rgb = over(getattr(frame, kind), frame.opacity)
    if not transparent:
        return to_uint8(rgb)
    straight = (rgb - 1 + alpha) / np.maximum(alpha, 1e-6)
    return to_uint8(np.concatenate([straight, alpha], -1))
