import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.view_renderer import occupied_cells, prepare_views, render_views
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import albedo_light
from dreamfusion_jax.scene.nerf import render_rays
from dreamfusion_jax.scene.rays import cast_rays


@pytest.mark.slow
def test_skipping_empty_space_shows_the_same_pictures(ball, params):
    cameras = orbit_camera(jnp.array([0.3, 2.0]), math.radians(20), 1.5, 1.1)
    fast = render_views(ball, params, cameras, 24)

    @jax.jit
    def plain(camera):
        rays = cast_rays(camera, 24, ball.radius)
        return render_rays(ball, params, rays, albedo_light(), jnp.zeros((24, 24, 3)), None)

    for i in range(2):
        slow = plain(jax.tree.map(lambda x, i=i: x[i], cameras))
        assert np.abs(fast.opacity[i] - slow.opacity).mean() < 0.01
        assert np.abs(fast.rgb[i] - slow.rgb).mean() < 0.01
        inside = np.asarray(slow.opacity) > 0.99
        assert inside.sum() > 50
        assert np.abs(fast.depth[i] - slow.depth)[inside].mean() < 0.005


@pytest.mark.slow
def test_pictures_do_not_depend_on_the_chunks(ball, params):
    cameras = orbit_camera(jnp.array([1.0]), 0.3, 1.5, 1.1)
    whole, parts = (render_views(ball, params, cameras, 9, chunk=n) for n in (10_000, 32))
    for name in ("rgb", "opacity", "depth", "normals"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), atol=1e-4)


@pytest.mark.slow
def test_without_normals_color_and_opacity_stay(ball, params):
    cameras = orbit_camera(jnp.array([1.0]), 0.3, 1.5, 1.1)
    full = render_views(ball, params, cameras, 16)
    quick = render_views(ball, params, cameras, 16, normals=False)
    np.testing.assert_allclose(quick.opacity, full.opacity, atol=1e-5)
    np.testing.assert_allclose(quick.rgb, full.albedo, atol=1e-5)
    assert not quick.normals.any() and full.normals.any()


def test_normals_of_the_ball_point_away_from_its_center(ball, params):
    camera = orbit_camera(jnp.array([0.7]), 0.4, 1.5, 1.1)
    out = render_views(ball, params, camera, 24)
    rays = cast_rays(jax.tree.map(lambda x: x[0], camera), 24, ball.radius)
    surface = rays.origins + out.depth[0][..., None] * rays.directions
    outward = np.asarray(surface) - np.array([0.1, 0.0, 0.05])
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    normals = out.normals[0] / np.linalg.norm(out.normals[0] + 1e-9, axis=-1, keepdims=True)
    cosine = np.sum(outward * normals, axis=-1)[out.opacity[0] > 0.99]
    assert len(cosine) > 50 and np.median(cosine) > 0.99 and cosine.min() > 0.9


def test_an_empty_scene_renders_as_nothing(make_scene, params):
    scene = make_scene(log_density=-20.0)
    assert not occupied_cells(scene, prepare_views(scene, params, 16).grid).any()
    cameras = orbit_camera(jnp.array([0.0, 1.0]), 0.0, 1.5, 1.1)
    out = render_views(scene, params, cameras, 8, normals=False)
    assert out.rgb.shape == (2, 8, 8, 3) and not out.opacity.any()


def test_a_field_that_is_not_finite_is_reported(make_scene, params):
    with pytest.raises(UserError, match="not finite"):
        prepare_views(make_scene(log_density=float("nan")), params, 8)
