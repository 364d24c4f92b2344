import math

import numpy as np
import pytest

from dreamfusion_jax.evaluation.alignment import Alignment, agreement, render_aligned
from dreamfusion_jax.evaluation.geometry import silhouette_iou
from dreamfusion_jax.export.view_renderer import prepare_views


def test_agreement_of_equal_pictures_is_one_and_color_counts():
    rng = np.random.default_rng(0)
    alpha = (rng.random((2, 8, 8, 1)) > 0.5).astype(float)
    a = np.concatenate([alpha * 0.25, alpha * 0.5, alpha * 0.75, alpha], -1)
    assert agreement(a, a) == pytest.approx(1.0)
    other = a[..., [2, 1, 0, 3]]
    assert agreement(a, other) == pytest.approx(
        1 - np.mean(np.sqrt(2 / 3 * 0.25 * alpha.mean((1, 2, 3))))
    )
    assert agreement(a, np.zeros_like(a)) < 0


@pytest.mark.slow
def test_aligned_cameras_undo_the_turn_and_the_scale(true_images, turned_scene, params):
    prepared = prepare_views(turned_scene, params)
    views = true_images.take(slice(0, 16, 5)).shrunk(32)
    known = Alignment(-math.radians(130), 1 / 0.8)
    rendered = render_aligned(turned_scene, params, prepared, views, known)
    ious = silhouette_iou(rendered[..., 3] > 0.5, views.rgba[..., 3] > 0.5)
    assert ious.min() > 0.9
    assert agreement(rendered, views.rgba) > 0.85
