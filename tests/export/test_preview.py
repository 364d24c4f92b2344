import numpy as np
import pytest

from dreamfusion_jax.export.preview import preview_grid


@pytest.mark.slow
def test_rows_are_color_shape_and_normals(ball, params):
    image = np.asarray(preview_grid(ball, params, size=24)).astype(int)
    assert image.shape == (72, 96, 3)
    color, clay, normals = np.split(image, 3)
    assert np.ptp(color, axis=-1).max() > 100 and np.ptp(normals, axis=-1).max() > 100
    assert np.ptp(clay, axis=-1).max() <= 2  # textureless is gray
    assert clay.min() < 120 and (clay == 255).any()
    for column in range(4):
        assert (color[:, 24 * column : 24 * column + 24] < 200).any()
