"""A bar for the furniture suite: no scene at all, just the prior's nearest picture of each view."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from dreamfusion_jax.evaluation.geometry import psnr, silhouette_iou
from dreamfusion_jax.furniture.object_views import GroundTruth, ObjectViews, shrink


@dataclasses.dataclass(frozen=True)
class NearestImage:
    """How well the nearest pictures agree with the true views, `degrees` away on average.

    `iou` of the silhouettes, `psnr` in dB over white, as the scores of results are.
    """

    iou: float
    psnr: float
    degrees: float


def nearest_image(library: ObjectViews, ground_truth: GroundTruth, size: int) -> NearestImage:
    """Show for each true view the library's picture whose camera is nearest, and score that.

    Args:
      library: views that have the noun of the ground truth, from the same distance.
      ground_truth: views that are not in the library.
      size: pixels a side of what is compared; divides that of the pictures.
    """
    row = library.nouns.index(ground_truth.noun)
    seen = directions(library.azimuth[row], library.elevation[row])
    cosines = directions(ground_truth.azimuth, ground_truth.elevation) @ seen.T
    nearest: Int[np.ndarray, views] = cosines.argmax(1)
    shown, true = (
        shrink(rgba, size).astype(np.float32) / 255
        for rgba in (library.rgba[row][nearest], ground_truth.rgba)
    )
    ious = silhouette_iou(shown[..., 3] > 0.5, true[..., 3] > 0.5)
    colors = (v[..., :3] * v[..., 3:] + 1 - v[..., 3:] for v in (shown, true))
    angles = np.degrees(np.arccos(np.minimum(cosines.max(1), 1.0)))
    return NearestImage(float(ious.mean()), float(psnr(*colors).mean()), float(angles.mean()))


def directions(
    azimuth: Float[np.ndarray, "views"], elevation: Float[np.ndarray, "views"]
) -> Float[np.ndarray, "views 3"]:
    """Return unit vectors from the origin towards cameras; angles in radians."""
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], -1)
