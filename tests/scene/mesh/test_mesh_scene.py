import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.base import build_scene
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.fields import GridField, MlpField
from dreamfusion_jax.scene.lights import albedo_light, point_light
from dreamfusion_jax.scene.mesh import regularizers
from dreamfusion_jax.scene.mesh.drawing import vertex_normals
from dreamfusion_jax.scene.mesh.from_density import ToSurface, seen_from_outside
from dreamfusion_jax.scene.mesh.scene import MeshScene
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler
from dreamfusion_jax.scene.rays import along, cast_rays
from dreamfusion_jax.types import RenderOutput

CAMERAS = orbit_camera(jnp.array([0.3, 2.0]), 0.4, 1.5, 1.25)


class Ball(MlpField):
    """A hollow ball, red above and blue below."""

    radius: float = 0.52
    ball: float = 0.3
    hollow: float = 0.15

    @nn.compact
    def __call__(self, mean, variance, step):
        distance = jnp.linalg.norm(mean, axis=-1)
        inside = jnp.minimum(self.ball - distance, distance - self.hollow)
        color = jnp.where(mean[..., 2:] > 0, jnp.array([0.8, 0.1, 0.1]), jnp.array([0.1, 0.2, 0.8]))
        return jnp.clip(400 * inside, -12.0, 7.0), color


@pytest.fixture(scope="module")
def scene():
    return MeshScene(field=Ball(), radius=0.52, cells=24, sphere=0.3 / 0.52)


@pytest.fixture(scope="module")
def params(scene):
    return scene.init(jax.random.key(0))


@functools.partial(jax.jit, static_argnums=(0, 4))
def draw(scene, params, cameras, lights, size):
    return scene.draw(params, cameras, lights, image_size=size)


def test_a_ball_is_drawn_as_it_is(scene, params):
    lights = point_light(CAMERAS.position, ambient=0.1, diffuse=0.9)
    views = draw(scene, params, CAMERAS, lights, 64)
    area = math.pi * (1.25 * 0.3) ** 2 / (1.5**2 - 0.3**2)
    np.testing.assert_allclose(views.opacity.mean((1, 2)), area, rtol=0.02)
    for i in range(2):
        rays = cast_rays(jax.tree.map(lambda x, i=i: x[i], CAMERAS), 64, 0.52)
        whole = np.asarray(views.opacity[i]) > 0.999
        places = along(rays, views.depth[i][..., None])[..., 0, :][whole]
        np.testing.assert_allclose(jnp.linalg.norm(places, axis=-1), 0.3, atol=0.004)
        normals = np.asarray(views.normals[i][whole])
        assert (normals * places / 0.3).sum(-1).min() > 0.97
        # The light stands in the camera: what faces it is brighter.
        cosine = (-normals * rays.directions[whole]).sum(-1)
        shade = np.asarray(views.rgb[i][whole]).sum(-1) / np.asarray(views.albedo[i][whole]).sum(-1)
        np.testing.assert_allclose(shade, 0.1 + 0.9 * cosine, atol=0.02)
        above = places[:, 2] > 0.01
        np.testing.assert_allclose(
            views.albedo[i][whole][above].mean(0), [0.8, 0.1, 0.1], atol=1e-2
        )
    assert not views.orientation.any()
    assert views.surface.faces.shape == (2 * math.ceil(6 * 24**2), 3)


def test_training_views_lie_over_the_background(scene, params):
    lights, keys = albedo_light((2,)), jax.random.split(jax.random.key(1), 2)
    render = jax.jit(functools.partial(scene.render, image_size=32))
    views = render(params, CAMERAS, lights, keys, 0)
    bare = draw(scene, params, CAMERAS, lights, 32)
    corner = views.rgb[:, :1, :1]
    assert np.abs(corner[0] - corner[1]).max() > 1e-3  # a color a view
    np.testing.assert_allclose(
        views.rgb, bare.rgb + (1 - bare.opacity[..., None]) * corner, atol=1e-5
    )


def test_the_prior_may_see_normals_or_colors_alone(scene, params):
    """Normals have no gradients for colors, and a fixed surface gets none."""
    field = GridField(cells=8, radius=0.52)
    params = params | {"field": field.init(jax.random.key(0), jnp.zeros((1, 3)), 0.0, 0)}
    keys, lights = jax.random.split(jax.random.key(1), 2), albedo_light((2,))

    def sizes(**changes):
        shown = dataclasses.replace(scene, field=field, **changes)

        @jax.jit
        @functools.partial(jax.value_and_grad, has_aux=True)
        def look(params):
            views = shown.render(params, CAMERAS, lights, keys, 0, image_size=32)
            return jnp.mean(views.rgb[..., 0] ** 2), views

        (_, views), slopes = look(params)
        parts = {k: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(slopes[k]))
                 for k in ("field", "surface")}  # fmt: skip
        return views, parts

    views, parts = sizes(shows="normals")
    assert parts["field"] == 0 and parts["surface"] > 0
    # In the middle it faces the camera.
    np.testing.assert_allclose(views.rgb[0, 15:17, 15:17].mean((0, 1)), [0.5, 0.5, 1.0], atol=0.03)
    _, parts = sizes(fixed=True)
    assert parts["field"] > 0 and parts["surface"] == 0


def test_pictures_move_distances_and_corners_and_colors(scene, params):
    """A larger ball has a larger area: all its parameters have a share in what is seen."""
    field = GridField(cells=8, radius=0.52)
    scene = dataclasses.replace(scene, field=field)
    params = params | {"field": field.init(jax.random.key(0), jnp.zeros((1, 3)), 0.0, 0)}

    @jax.jit
    @jax.grad
    def slope(params):
        views = scene.draw(params, CAMERAS, albedo_light((2,)), image_size=32)
        return jnp.mean(views.opacity) + jnp.mean(views.rgb)

    slopes = slope(params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))
    assert slopes["surface"]["level_distance"].sum() < -0.01
    assert any(np.abs(x).max() > 0 for x in jax.tree.leaves(slopes["field"]))
    assert np.abs(slopes["surface"]["level_offset"]).max() > 0


def test_points_inside_are_dense(scene, params):
    points = jnp.array([[0.0, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.5]])
    found = scene.at_points(params, points)
    most = 1 / (0.5 * scene.cell)
    np.testing.assert_allclose(found.density[:2], [most, most / 2], rtol=0.03)
    assert found.density[2] < 1e-2 and found.normals is None


def test_the_whole_surface_needs_no_budget(scene, params):
    small = dataclasses.replace(scene, budget=0.5)
    assert len(small.mesh(params)[0].faces) < len(np.unique(small.surface(params).faces, axis=0))
    normals = vertex_normals(small.surface(params))
    outwards = small.surface(params).vertices / 0.3
    assert (normals * outwards).sum(-1).min() > 0.97


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scene.cells": 2}, "cells"),
        ({"scene.budget": 0.0}, "budget"),
        ({"scene.sphere": 1.0}, "sphere"),
        ({"scene.space": "hsv"}, "space"),
        ({"scene.shows": "depth"}, "shows"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes, message):
    config = load_config("quick")
    override(config, {"scene.name": "mesh"} | changes)
    with pytest.raises(UserError, match=message):
        build_scene(config.scene)


def test_another_scene_keeps_field_and_background():
    config = load_config("quick")
    before = build_scene(config.scene)
    override(config, {"scene.name": "mesh", "scene.cells": 16})
    scene = build_scene(config.scene)
    assert isinstance(scene, MeshScene) and scene.cells == 16
    assert (scene.field, scene.background) == (before.field, before.background)
    assert "sampler" not in config.scene and hash(scene) == hash(build_scene(config.scene))


@pytest.fixture(scope="module")
def converted():
    field = Ball()
    old = NerfScene(field=field, sampler=HierarchicalSampler(48, 24), radius=0.52)
    new = MeshScene(field=field, radius=0.52, cells=32)
    params = {"field": field.init(jax.random.key(0), jnp.zeros((1, 3)), 0.0, 0), "background": {}}
    convert = jax.jit(lambda key: ToSurface()(old, params, new, 0, key))
    return old, params, new, convert(jax.random.key(0))


def test_a_density_becomes_the_surface_that_it_shows(converted):
    old, params, new, made = converted
    lights = albedo_light((2,))
    before, after = (draw(s, p, CAMERAS, lights, 48) for s, p in ((old, params), (new, made)))
    first, second = (np.asarray(x.opacity) > 0.5 for x in (before, after))
    assert (first & second).sum() / (first | second).sum() > 0.97
    both = first & second
    assert np.abs(before.albedo - after.albedo)[both].mean() < 0.02
    # Its hollow is not seen: there are no walls around it.
    radii = jnp.linalg.norm(new.surface(made).vertices, axis=-1)
    np.testing.assert_allclose(radii, 0.3, atol=new.cell)


def test_what_light_reaches_is_seen_and_no_hollow():
    thickness = np.zeros((12, 12, 12), np.float32)
    thickness[2:10, 2:10, 2:10] = 5.0
    thickness[4:8, 4:8, 4:8] = 0.0
    thickness[5, 5, 2:4] = 0.0  # a shaft
    seen = seen_from_outside(jnp.asarray(thickness))
    assert seen[0].all() and seen[2, 2:10].any() and not seen[6:8, 6:8, 4:8].any()
    assert seen[5, 5, 3] and not seen[3:9, 3, 3].any()


def test_a_field_of_another_shape_gets_the_colors(converted):
    old, params, new, _ = converted
    finer = dataclasses.replace(new, field=GridField(cells=16, radius=0.52))
    convert = ToSurface(steps=200, points=2048)
    made = jax.jit(lambda key: convert(old, params, finer, 0, key))(jax.random.key(0))
    points = jnp.array([[0.0, 0.0, 0.28], [0.0, 0.1, -0.26]])
    colors = finer.at_points(made, points).albedo
    np.testing.assert_allclose(colors, [[0.8, 0.1, 0.1], [0.1, 0.2, 0.8]], atol=0.15)


def test_only_a_mesh_is_made_of_a_surface(converted):
    old, params, _, _ = converted
    with pytest.raises(UserError, match="mesh"):
        ToSurface()(old, params, old, 0, jax.random.key(0))


def test_regularizers_tell_smooth_from_rough(scene, params):
    noise = jax.random.normal(jax.random.key(0), params["surface"]["level_distance"].shape)
    rough = params | {
        "surface": params["surface"]
        | {"level_distance": params["surface"]["level_distance"] + 0.4 * noise}
    }

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.value_and_grad, argnums=1)
    def term(regularizer, params):
        views = draw.__wrapped__(scene, params, CAMERAS, albedo_light((2,)), 16)
        return regularizer.of(views, jnp.array(0))

    for kind in ("NormalConsistency", "Laplacian", "EdgeLength", "Eikonal"):
        regularizer = getattr(regularizers, kind)(start=1.0, end=1.0)
        (smooth, _), (noisy, slopes) = term(regularizer, params), term(regularizer, rough)
        assert 0 <= smooth < 0.12 and noisy > 1.2 * smooth, (kind, smooth, noisy)
        own = slopes["surface"]["level_distance"]
        assert np.isfinite(own).all() and np.abs(own).max() > 0
        moved = {**rough, "surface": {**rough["surface"], "level_distance":
                 rough["surface"]["level_distance"] - 0.1 * own / np.abs(own).max()}}  # fmt: skip
        assert term(regularizer, moved)[0] < noisy


@pytest.mark.parametrize("kind", ["NormalConsistency", "Eikonal"])
def test_a_field_has_no_mesh_to_regularize(kind):
    zeros = jnp.zeros((1, 2, 2))
    views = RenderOutput(*[zeros[..., None].repeat(3, -1)] * 2, zeros, zeros,
                         zeros[..., None].repeat(3, -1), zeros)  # fmt: skip
    with pytest.raises(UserError, match="mesh"):
        getattr(regularizers, kind)().of(views, jnp.array(0))


def test_a_stage_may_be_a_mesh():
    config = load_config("quick").unlock()
    config.stages = ml_collections.ConfigDict(
        {"surface": {"begin": 0.5, "scene": {"name": "mesh", "cells": 24}}}
    )
    from dreamfusion_jax.config import stage_configs

    first, second = (build_scene(stage.config.scene) for stage in stage_configs(config))
    assert isinstance(first, NerfScene) and isinstance(second, MeshScene)
    assert second.cells == 24 and second.field == first.field
