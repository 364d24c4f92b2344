import numpy as np
import pytest

from dreamfusion_jax.furniture.nearest_image import nearest_image
from dreamfusion_jax.furniture.object_views import GroundTruth, ObjectViews
from dreamfusion_jax.types import CameraLight


def square(width: int, color: int) -> np.ndarray:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:width, :width] = (color, color, color, 255)
    return image


def test_each_view_is_shown_the_nearest_picture():
    angles = np.radians([350.0, 90.0, 180.0])
    library = ObjectViews(
        nouns=("cube",),
        rgba=np.stack([square(4, 0), square(8, 51), square(2, 0)])[None],
        azimuth=angles.astype(np.float32)[None],
        elevation=np.zeros((1, 3), np.float32),
        distance=1.5,
        focal=1.25,
        synonyms={"cube": ()},
        colors={"cube": ""},
    )
    ground_truth = GroundTruth(
        noun="cube",
        rgba=np.stack([square(4, 0), square(8, 0)]),
        azimuth=np.radians([5.0, 90.0]).astype(np.float32),
        elevation=np.radians([0.0, 10.0]).astype(np.float32),
        distance=1.5,
        focal=1.25,
        light=CameraLight(ambient=1.0, diffuse=0.0, right=0.3, up=0.8),
        points=np.zeros((1, 3), np.float32),
    )
    # The first view, 15 degrees off across 360, is the same picture: 100 dB. The second, 10 degrees
    # off, is too bright by 0.2: 14 dB.
    bar = nearest_image(library, ground_truth, 4)
    assert bar.iou == 1.0
    assert bar.psnr == pytest.approx((100 - 20 * np.log10(0.2)) / 2, abs=1e-3)
    assert bar.degrees == pytest.approx((15 + 10) / 2, abs=1e-2)
