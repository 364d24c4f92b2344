import re
import xml.etree.ElementTree

import numpy as np
import pytest

from dreamfusion_jax.export.plots import line_chart


def _curve(svg, name):
    path = re.search(rf'class="{name}" d="M([^"]*)"', svg).group(1)
    return np.array([[float(v) for v in point.split()] for point in path.split("L")])


def test_curve_falls_as_the_values_do():
    svg = line_chart("a < b", [0, 10, 20, 30], [4.0, 3.0, 2.0, 1.0])
    xml.etree.ElementTree.fromstring(svg)
    points = _curve(svg, "raw")
    np.testing.assert_allclose(np.diff(points[:, 0]), points[1, 0] - points[0, 0], atol=0.11)
    np.testing.assert_allclose(np.diff(points[:, 1]), points[1, 1] - points[0, 1], atol=0.11)
    assert points[1, 1] > points[0, 1]  # down is larger in SVG


def test_many_decades_make_the_axis_logarithmic():
    points = _curve(line_chart("x", [0, 1, 2], [1e-6, 1e-3, 1.0]), "raw")
    assert points[0, 1] - points[1, 1] == pytest.approx(points[1, 1] - points[2, 1], abs=0.2)


@pytest.mark.parametrize("values", [[], [1.0], [float("nan"), 1.0]])
def test_too_few_values_draw_nothing(values):
    assert line_chart("x", list(range(len(values))), values) == ""


def test_a_range_of_three_powers_of_ten_has_an_axis():
    assert "<svg" in line_chart("x", [1, 2], [0.194247, 0.494247])  # 0.3, less a rounding error


def test_a_constant_draws_a_flat_line():
    assert np.ptp(_curve(line_chart("x", [0, 1, 2], [3.0] * 3), "mean")[:, 1]) == 0
