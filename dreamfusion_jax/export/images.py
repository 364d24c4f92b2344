"""Renders -> pictures: composited colors, normals, depth, sheets of several."""

import io
import os

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import write_bytes

# Far to near: dark blue over teal and ochre to pale yellow, of rising lightness.
_DEPTH_COLORS = np.array(
    [[0.13, 0.12, 0.31], [0.18, 0.33, 0.53], [0.25, 0.56, 0.58], [0.62, 0.69, 0.44],
     [0.93, 0.73, 0.35], [0.99, 0.94, 0.70]]
)  # fmt: skip


def to_uint8(image: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """[0, 1] -> 0 ... 255, rounded; what lies outside is clipped, NaN becomes 0."""
    return (np.clip(np.nan_to_num(image), 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def over(
    premultiplied: Float[np.ndarray, "*shape 3"],
    opacity: Float[np.ndarray, "*shape"],
    background: float = 1.0,
) -> Float[np.ndarray, "*shape 3"]:
    """Composite a premultiplied color over a gray background (1 is white)."""
    return premultiplied + (1.0 - opacity[..., None]) * background


def normal_colors(
    normals: Float[np.ndarray, "*shape 3"], opacity: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape 3"]:
    """Return premultiplied world normals as n / 2 + 1 / 2 on white, n made a unit vector.

    World frame: the same side of the object has the same color from every camera.
    """
    unit = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    return over((0.5 * unit + 0.5) * opacity[..., None], opacity)


def depth_range(
    depth: Float[np.ndarray, "*shape"], opacity: Float[np.ndarray, "*shape"]
) -> tuple[float, float]:
    """Return the distances between which most of the object lies (2nd and 98th percentile)."""
    solid = opacity > 0.5
    if not solid.any():
        return 0.0, 1.0
    near, far = np.percentile(depth[solid] / opacity[solid], [2, 98])
    return float(near), float(max(far, near + 1e-3))


def depth_colors(
    depth: Float[np.ndarray, "*shape"],
    opacity: Float[np.ndarray, "*shape"],
    bounds: tuple[float, float],
) -> Float[np.ndarray, "*shape 3"]:
    """Return premultiplied depth as color on white: light is near, dark is far.

    Args:
      depth: expected distance along the ray, premultiplied by opacity.
      opacity: in [0, 1].
      bounds: the distances that get the lightest and the darkest color.
    """
    near, far = bounds
    distance = depth / np.maximum(opacity, 1e-6)
    nearness = np.clip((far - distance) / (far - near), 0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(_DEPTH_COLORS))
    color = np.stack([np.interp(nearness, stops, c) for c in _DEPTH_COLORS.T], axis=-1)
    return over(color * opacity[..., None], opacity)


def sheet(
    rows: list[list[UInt8[np.ndarray, "height width channels"]]],
) -> UInt8[np.ndarray, "h w channels"]:
    """Return pictures of one size, side by side and below each other."""
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def png_bytes(image: PIL.Image.Image) -> bytes:
    """Return the picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def check_png(path: str | os.PathLike) -> None:
    """Raise UserError for a picture's name that does not end in .png."""
    if os.path.splitext(path)[1].lower() != ".png":
        raise UserError(f"The picture {path} must end in .png.")


def save_png(image: PIL.Image.Image, path: str | os.PathLike) -> None:
    """Write a PNG file, replacing an older one at once.

    Raises:
      UserError: the file cannot be written.
    """
    write_bytes(path, png_bytes(image))
