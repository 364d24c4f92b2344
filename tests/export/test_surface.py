import numpy as np
import pytest

from dreamfusion_jax.export.surface import surface_level

AXIS = np.linspace(-0.5, 0.5, 49)
RADIUS = np.linalg.norm(np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij")), axis=0)
SPACING = np.full(3, AXIS[1] - AXIS[0])


@pytest.mark.parametrize("peak", [30.0, 300.0, 30000.0])
def test_level_lies_between_a_solid_and_its_haze(peak):
    # 0.1 per unit length is invisible across the grid, whatever the solid's density.
    density = np.where(RADIUS < 0.3, peak, 0.1)
    assert 0.1 < surface_level(density, SPACING) < peak


def test_level_of_a_gaussian_cuts_where_the_rendering_is_half_opaque():
    # A ray at distance b from the center has the optical depth
    # peak exp(-b^2 / 2 s^2) s sqrt(2 pi): the silhouette is where that is log 2.
    peak, s = 40.0, 0.12
    half = s * np.sqrt(2 * np.log(peak * s * np.sqrt(2 * np.pi) / np.log(2)))
    level = surface_level(peak * np.exp(-(RADIUS**2) / (2 * s**2)), SPACING)
    cut = s * np.sqrt(2 * np.log(peak / level))
    assert cut == pytest.approx(half, abs=0.015)


def test_no_level_where_nothing_is_half_opaque():
    assert surface_level(np.where(RADIUS < 0.3, 0.5, 0.0), SPACING) is None
