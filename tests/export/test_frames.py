import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.frames import Lighting, check_kinds, panels, render_frames
from dreamfusion_jax.scene.cameras import orbit_camera

FRONT = orbit_camera(jnp.zeros(1), 0.0, 1.5, 1.2)


def shot(ball, params, kinds, **lighting):
    (frame,) = render_frames(ball, params, FRONT, 32, kinds, lighting=Lighting(**lighting))
    return frame


def test_light_comes_from_where_it_is_said(ball, params):
    """From the left of the picture (azimuth -90 degrees is to the camera's left)."""
    left = shot(ball, params, ["textureless"], direction=(-np.pi / 2, 0.0), ambient=(0, 0, 0))
    right = shot(ball, params, ["textureless"], direction=(np.pi / 2, 0.0), ambient=(0, 0, 0))
    gray = left.textureless.mean(-1)
    assert gray[:, :14].sum() > 5 * gray[:, 18:].sum()
    np.testing.assert_allclose(gray, right.textureless.mean(-1)[:, ::-1], atol=0.02)


def test_colors_of_the_lights_multiply_the_albedo(ball, params):
    white = shot(ball, params, ["shaded"], color=(1, 1, 1), ambient=(0, 0, 0))
    dim = shot(ball, params, ["shaded"], color=(0.5, 0.2, 0.0), ambient=(0.1, 0.3, 0.2))
    wanted = np.array([0.5, 0.2, 0.0]) * white.shaded + np.array([0.1, 0.3, 0.2]) * white.color
    np.testing.assert_allclose(dim.shaded, wanted, atol=1e-6)
    assert dim.textureless is None


def test_panels_are_side_by_side_on_white_or_with_alpha(ball, params):
    kinds = ["color", "normals", "depth", "opacity"]
    frame = shot(ball, params, kinds)
    (opaque,) = panels([frame], kinds)
    assert opaque.shape == (32, 128, 3) and (opaque[0, :96] == 255).all()
    (alpha,) = panels([frame], kinds, transparent=True)
    assert alpha.shape == (32, 128, 4) and (alpha[0, :96, 3] == 0).all()
    inside = opaque[16, 8:24].astype(int)
    np.testing.assert_allclose(alpha[16, 8:24, :3], inside, atol=2)
    assert (alpha[16, 8:24, 3] > 250).all()


def test_what_cannot_be_shown_is_named():
    with pytest.raises(UserError, match="speed cannot be shown"):
        check_kinds(["color", "speed"])
