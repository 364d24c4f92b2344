import io

import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.export import images


def test_to_uint8_rounds_and_clips():
    values = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, np.nan])
    np.testing.assert_array_equal(images.to_uint8(values), [0, 0, 128, 255, 255, 0])


def test_normals_are_unit_vectors_as_colors_on_white():
    normals = np.array([[0.0, 0.0, 0.5], [0.25, 0.0, 0.0], [0.0, 0.0, 0.0]])
    colors = images.normal_colors(normals, np.array([1.0, 0.5, 0.0]))
    np.testing.assert_allclose(colors, [[0.5, 0.5, 1.0], [1.0, 0.75, 0.75], [1.0, 1.0, 1.0]])


def test_nearer_is_lighter_and_empty_is_white():
    opacity = np.array([1.0, 1.0, 0.5, 0.0])
    depth = np.array([1.0, 2.0, 1.0, 0.0])
    bounds = images.depth_range(depth, opacity)
    assert bounds[0] == pytest.approx(1.0, abs=0.05)
    assert bounds[1] == pytest.approx(2.0, abs=0.05)
    colors = images.depth_colors(depth, opacity, (1.0, 2.0))
    assert colors[0].sum() > 2.5 and colors[1].sum() < 0.7
    # Half transparent at distance 2: halfway to white.
    np.testing.assert_allclose(colors[2], 0.5 * colors[1] + 0.5)
    np.testing.assert_allclose(colors[3], 1.0)


def test_sheet_and_png():
    red, blue = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    page = images.sheet([[red, blue], [blue, red], [red, red]])
    image = PIL.Image.open(io.BytesIO(images.png_bytes(PIL.Image.fromarray(page))))
    assert image.size == (8, 12)
    assert image.getpixel((6, 1)) == (0, 0, 255) and image.getpixel((6, 5)) == (255, 0, 0)
