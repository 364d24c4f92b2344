"""A scene that is a mesh is shown and exported as it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import NoSurface, UserError
from dreamfusion_jax.evaluation.mesh_agreement import compare_mesh, is_closed
from dreamfusion_jax.export.baking import with_texture, with_vertex_colors
from dreamfusion_jax.export.frames import render_frames
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.export.view_renderer import prepare_views, render_views
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import albedo_light
from dreamfusion_jax.scene.mesh.scene import MeshScene


@pytest.fixture(scope="module")
def surface(ball):
    return MeshScene(field=ball.field, radius=0.75, cells=24)


@pytest.fixture(scope="module")
def surface_params(surface):
    """A ball, a speck, and a hollow that cannot be seen."""
    corners = surface.grid()
    distance = jnp.linalg.norm(corners - jnp.array([0.1, 0.0, 0.05]), axis=-1)
    hollow = jnp.maximum(distance - 0.3, 0.12 - distance)
    speck = jnp.linalg.norm(corners - jnp.array([-0.5, 0.0, 0.0]), axis=-1) - 0.03
    made = surface.surface_params(jnp.minimum(hollow, speck))
    return surface.init(jax.random.key(0)) | {"surface": made}


def test_pictures_are_what_the_scene_draws(surface, surface_params):
    cameras = orbit_camera(jnp.arange(5.0), 0.3, 1.5, 1.1)
    calls = []
    found = render_views(
        surface, surface_params, cameras, 32, before_chunk=lambda: calls.append(None)
    )
    draw = jax.jit(functools.partial(surface.draw, image_size=32))
    drawn = draw(surface_params, cameras, albedo_light((5,)))
    for name in ("rgb", "albedo", "opacity", "depth", "normals"):
        np.testing.assert_allclose(getattr(found, name), getattr(drawn, name), atol=1e-5)
    bare = render_views(surface, surface_params, cameras, 32, normals=False)
    np.testing.assert_allclose(bare.rgb, found.albedo, atol=1e-6)
    assert calls and not bare.normals.any()


def test_pictures_do_not_depend_on_how_many_are_drawn_together(
    surface, surface_params, monkeypatch
):
    cameras = orbit_camera(jnp.arange(3.0), 0.3, 1.5, 1.1)
    whole = render_views(surface, surface_params, cameras, 16)
    monkeypatch.setattr("dreamfusion_jax.export.view_renderer._PIXELS_PER_DRAWING", 2 * 16**2)
    parts = render_views(surface, surface_params, cameras, 16)
    np.testing.assert_allclose(parts.rgb, whole.rgb, atol=1e-6)
    assert parts.rgb.shape == (3, 16, 16, 3)


def test_frames_are_lit(surface, surface_params):
    cameras = orbit_camera(jnp.array([0.3]), 0.3, 1.5, 1.1)
    (frame,) = render_frames(
        surface, surface_params, cameras, 32, ["color", "shaded", "textureless", "normals"]
    )
    assert frame.textureless[16, 16].std() < 1e-6 < frame.color[16, 16].std()
    assert 0.2 < frame.shaded[16, 16].sum() < frame.color[16, 16].sum()


def test_the_mesh_is_the_scene_s_own_without_what_is_not_seen(surface, surface_params):
    mesh = extract_mesh(surface, surface_params)
    assert mesh.is_watertight and mesh.volume > 0
    distance = np.linalg.norm(mesh.vertices - [0.1, 0.0, 0.05], axis=-1)
    np.testing.assert_allclose(distance, 0.3, atol=0.01)  # neither speck nor hollow
    own = np.asarray(surface.surface(surface_params).vertices)
    assert {tuple(v) for v in mesh.vertices.astype(np.float32)} <= {tuple(v) for v in own}
    few = extract_mesh(surface, surface_params, triangles=200)
    assert few.is_watertight and len(few.faces) <= 200 < len(mesh.faces)


def test_its_file_looks_like_it(surface, surface_params):
    mesh = extract_mesh(surface, surface_params)
    colored = with_vertex_colors(surface, surface_params, mesh)
    upper = mesh.vertices[:, 2] > 0.06
    np.testing.assert_allclose(
        colored.visual.vertex_colors[upper][:, :3].mean(0), [204, 26, 26], atol=2
    )
    textured = with_texture(surface, surface_params, mesh, 128)
    assert is_closed(textured)
    psnr, iou = compare_mesh(surface, surface_params, textured, 1.5, 1.1)
    assert iou > 0.97 and psnr > 25


def test_what_is_not_finite_or_not_there_is_said(surface, surface_params):
    nothing = surface_params | {"surface": surface.surface_params(jnp.ones((25,) * 3))}
    with pytest.raises(NoSurface, match="no surface"):
        extract_mesh(surface, nothing)
    broken = jax.tree.map(lambda x: x * np.nan, surface_params)
    with pytest.raises(UserError, match="not finite"):
        prepare_views(surface, broken)


def test_a_scene_of_another_kind_is_shown_but_has_no_mesh(surface, surface_params):
    class Other(Scene):
        radius, channels = 0.75, 3
        init = render = at_points = None

        def draw(self, params, cameras, lights, *, image_size, step=FINISHED):
            return surface.draw(params, cameras, lights, image_size=image_size, step=step)

    cameras = orbit_camera(jnp.array([0.3]), 0.3, 1.5, 1.1)
    assert render_views(Other(), surface_params, cameras, 16).opacity.mean() > 0.05
    with pytest.raises(UserError, match="A Other has no surface"):
        extract_mesh(Other(), surface_params)
