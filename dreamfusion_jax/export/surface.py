"""Which iso-level of the density is the surface that one sees.

A density has no surface of its own: the same picture comes from a thin dense shell and
from thick fog. So the level is read off the rendering: along parallel rays from several
sides the mesh {tau >= level} shall cover the rays whose opacity is above one half, and
shall begin where the transmittance falls through one half.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

# Level sets whose silhouettes are this close to the best count as equally good.
_IOU_TOLERANCE = 0.005
# From these sides the rays come: three faces and the four upper corners of a cube.
_DIRECTIONS = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, -1, 1], [-1, 1, 1], [-1, -1, 1]], float
)


def surface_level(
    density: Float[np.ndarray, "x y z"],
    spacing: Float[np.ndarray, "3"],
    *,
    rays_per_side: int = 56,
    levels: int = 48,
) -> float | None:
    """Return the density level whose surface agrees best with the rendered opacity and depth.

    Args:
      density: tau >= 0 on a regular grid.
      spacing: distance between grid points along each axis, in scene units.
      rays_per_side: rays across the grid in each of the two directions of a picture.
      levels: how many levels are compared, evenly spaced in their logarithm.

    Returns:
      The level, or None where no ray is more than half opaque.
    """
    samples, step = _march(density, spacing, rays_per_side)
    optical_depth = np.cumsum(samples * step, axis=1)
    solid = optical_depth[:, -1] > np.log(2.0)
    if not solid.any():
        return None
    # Rays of one picture come from both ends: depth is compared from the front only,
    # silhouettes are the same from both.
    half_depth = np.argmax(optical_depth > np.log(2.0), axis=1)[solid]
    highest = np.maximum.accumulate(samples, axis=1)
    candidates = _candidates(highest[:, -1], solid, levels)
    ious = np.array([_iou(highest[:, -1] >= level, solid) for level in candidates])
    good = np.flatnonzero(ious >= ious.max() - _IOU_TOLERANCE)
    errors = [_depth_error(highest[solid], half_depth, candidates[i]) for i in good]
    return float(candidates[good[int(np.argmin(errors))]])


def _march(
    density: Float[np.ndarray, "x y z"], spacing: Float[np.ndarray, "3"], count: int
) -> tuple[Float[np.ndarray, "rays samples"], float]:
    """Return samples along parallel rays through the grid, and the distance between samples."""
    extent = spacing * (np.array(density.shape) - 1)
    radius = 0.5 * float(np.linalg.norm(extent))
    line = (np.arange(count) + 0.5) / count * 2 * radius - radius
    across = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 1, 2)
    step = radius / count  # twice as fine along the ray as across
    along = (np.arange(2 * count) + 0.5) * step - radius
    parts = []
    for direction in _DIRECTIONS / np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True):
        u, v = _perpendicular(direction)
        points = across[..., :1] * u + across[..., 1:] * v + along[:, None] * direction
        index = (points + 0.5 * extent) / spacing
        values = ndimage.map_coordinates(density, index.reshape(-1, 3).T, order=1, cval=0.0)
        parts.append(values.reshape(points.shape[:2]))
    return np.concatenate(parts).astype(np.float32), step


def _perpendicular(direction: Float[np.ndarray, "3"]) -> tuple[np.ndarray, np.ndarray]:
    helper = np.eye(3)[np.argmin(np.abs(direction))]
    u = np.cross(direction, helper)
    u /= np.linalg.norm(u)
    return u, np.cross(direction, u)


def _candidates(
    highest: Float[np.ndarray, "rays"], solid: Bool[np.ndarray, "rays"], levels: int
) -> Float[np.ndarray, "levels"]:
    # Above the median of the solid rays half of them would be lost, whatever the rest.
    low, high = highest[solid].min(), np.median(highest[solid])
    return np.geomspace(0.5 * low, high, levels)


def _iou(a: Bool[np.ndarray, "rays"], b: Bool[np.ndarray, "rays"]) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def _depth_error(
    highest: Float[np.ndarray, "rays samples"], half_depth: np.ndarray, level: float
) -> float:
    """Return mean distances, in samples, from where a ray meets the level to its half opacity."""
    meets = highest[:, -1] >= level
    first = np.argmax(highest[meets] >= level, axis=1)
    return float(np.abs(first - half_depth[meets]).mean())
