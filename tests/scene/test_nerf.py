import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.background import Environment
from dreamfusion_jax.scene.cameras import CameraDistribution, orbit_camera, sample_camera
from dreamfusion_jax.scene.fields import Field, MlpField
from dreamfusion_jax.scene.lights import albedo_light, point_light
from dreamfusion_jax.scene.nerf import (
    NerfScene,
    density_at,
    field_at,
    prepare,
    render_rays,
)
from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler
from dreamfusion_jax.scene.rays import cast_rays
from dreamfusion_jax.schedules import Ramp

CAMERA = orbit_camera(jnp.array(0.4), 0.3, 2.0, 1.25)


class GaussianBall(Field):
    """tau = exp(2 - |x|^2 / (2 std^2)), red."""

    std: float = 0.2

    @nn.compact
    def __call__(self, mean, variance, step):
        del variance
        squared = jnp.sum(mean**2, -1)
        red = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), mean.shape)
        return 2.0 - squared / (2 * self.std**2), red


BALL = NerfScene(field=GaussianBall(), sampler=HierarchicalSampler(64, 64), radius=1.0)


def render(scene, params, size, light=None):
    """The view of CAMERA over white."""
    rays = cast_rays(CAMERA, size, scene.radius)
    light = albedo_light() if light is None else light
    white = jnp.ones_like(rays.directions)
    return jax.jit(functools.partial(render_rays, scene, key=None))(params, rays, light, white)


def ball_opacity(rays, std=0.2):
    squared = np.sum(np.cross(rays.origins, rays.directions) ** 2, -1)
    depth = np.exp(2.0 - squared / (2 * std**2)) * std * np.sqrt(2 * np.pi)
    return 1 - np.exp(-depth)


def test_a_gaussian_ball_is_rendered_with_its_analytic_opacity():
    out = render(BALL, {"field": {}}, 24)
    expected = ball_opacity(cast_rays(CAMERA, 24, 1.0))
    inside = np.asarray(cast_rays(CAMERA, 24, 1.0).far) > 0
    np.testing.assert_allclose(out.opacity[inside], expected[inside], atol=0.01)
    assert np.all(out.opacity[~inside] == 0)
    np.testing.assert_allclose(out.albedo[..., 0], out.opacity, atol=1e-5)
    np.testing.assert_allclose(out.rgb[..., 1], 1 - out.opacity, atol=1e-5)  # white behind


def test_depth_and_normals_of_the_ball():
    out = render(BALL, {"field": {}}, 25)
    center = 12, 12
    assert 1.0 < out.depth[center] / out.opacity[center] < 2.0  # before its middle
    towards_camera = np.asarray(CAMERA.position) / 2.0
    normal = out.normals[center]
    assert np.dot(normal, towards_camera) / np.linalg.norm(normal) > 0.99
    assert out.orientation[center] < 0.5


def training_views(scene, params, *, points_per_chunk=0):
    """A small training batch: two views, lights and keys, and its loss and gradient."""
    field = dataclasses.replace(scene.field, points_per_chunk=points_per_chunk)
    scene = dataclasses.replace(scene, field=field)
    keys = jax.random.split(jax.random.key(3), 2)
    cameras = jax.jit(jax.vmap(lambda k: sample_camera(k, CameraDistribution())))(keys)
    rays = jax.jit(jax.vmap(lambda c: cast_rays(c, 6, scene.radius)))(cameras)
    lights = point_light(jnp.array([[0.0, 0, 2], [1, 1, 0]]))
    background = jnp.full(rays.directions.shape, 0.3)

    def loss(params):
        out = render_rays(scene, params, rays, lights, background, keys, 0)
        return jnp.sum(jnp.sin(3 * out.rgb)) + jnp.sum(out.orientation), out

    (_, out), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return rays, lights, background, keys, out, gradient


@pytest.mark.slow
def test_points_per_chunk_changes_neither_image_nor_gradient(scene, params):
    *_, whole, whole_gradient = training_views(scene, params)
    *_, parts, parts_gradient = training_views(scene, params, points_per_chunk=100)
    np.testing.assert_allclose(whole.rgb, parts.rgb, atol=1e-5)
    for a, b in zip(jax.tree.leaves(whole_gradient), jax.tree.leaves(parts_gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3 * (np.abs(a).max() + 1e-6))


@pytest.mark.slow
def test_views_together_equal_each_alone(scene, params):
    rays, lights, background, keys, out, _ = training_views(scene, params)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], (rays, lights, background))
        alone = jax.jit(functools.partial(render_rays, scene))(params, *one, keys[i], 0)
        np.testing.assert_allclose(out.rgb[i], alone.rgb, atol=1e-5)


def test_the_coarse_pass_has_no_gradient():

    class Scaled(Field):
        @nn.compact
        def __call__(self, mean, variance, step):
            log_density, albedo = GaussianBall()(mean, variance, step)
            return log_density + self.param("raise", nn.initializers.zeros, ()), albedo

    scene = dataclasses.replace(BALL, field=Scaled(), sampler=HierarchicalSampler(32, 256))
    params = scene.init(jax.random.key(0))
    rays = cast_rays(CAMERA, 5, 1.0)
    black = jnp.zeros(rays.directions.shape)

    def red(params):
        return render_rays(scene, params, rays, albedo_light(), black, None).rgb[..., 0].sum()

    # d opacity / d raise = depth exp(-depth), if only the fine samples' densities count:
    # samples that moved with the parameter would add terms.
    opacity = ball_opacity(rays)
    depth = -np.log1p(-opacity)
    expected = np.sum((depth * (1 - opacity))[np.asarray(rays.far) > 0])
    assert jax.jit(jax.grad(red))(params)["field"]["params"]["raise"] == pytest.approx(
        expected, rel=0.02
    )


@pytest.mark.slow
@pytest.mark.parametrize("offset", [-60.0, 60.0])
def test_empty_and_solid_scenes_have_finite_gradients(offset, params, scene):
    scene = dataclasses.replace(
        scene, field=dataclasses.replace(scene.field, density_offset=offset)
    )
    *_, out, gradient = training_views(scene, params)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((out, gradient)))


@pytest.mark.slow
def test_default_sampling_is_close_to_a_dense_reference():
    """48 + 20 samples of an untrained field of the paper's kind against 256 + 256."""
    field = MlpField(width=32, blocks=2, frequencies=6)
    few = NerfScene(field=field, sampler=HierarchicalSampler(48, 20), radius=1.0)
    dense = dataclasses.replace(few, sampler=HierarchicalSampler(256, 256))
    params = few.init(jax.random.key(0))
    light = point_light(jnp.array([0.0, 0.0, 2.0]))
    images = [render(s, params, 16, light).rgb for s in (few, dense)]
    assert np.sqrt(np.mean((images[0] - images[1]) ** 2)) < 0.012


@pytest.mark.slow
def test_background_kinds(scene, params, key):
    directions = jnp.array([[1.0, 0, 0], [0, 1.0, 0]])
    flat = scene.background.colors({}, directions, key)
    assert np.all(flat[0] == flat[1])
    mapped = dataclasses.replace(scene, background=Environment(width=8))
    mapped_params = mapped.init(key)
    first, second = mapped.background.colors(mapped_params["background"], directions, key)
    assert np.any(first != second)
    gradient = jax.jit(
        jax.grad(lambda p: mapped.background.colors(p["background"], directions, key).sum())
    )
    assert any(np.any(g != 0) for g in jax.tree.leaves(gradient(mapped_params)["background"]))


def test_the_albedo_light_leaves_the_albedo(scene, params):
    rays = cast_rays(CAMERA, 5, 1.0)
    black = jnp.zeros(rays.directions.shape)
    out = jax.jit(functools.partial(render_rays, scene, key=None))(
        params, rays, albedo_light(), black
    )
    np.testing.assert_allclose(out.rgb, out.albedo, atol=1e-6)


def test_grids_are_read_in_chunks(scene, params):
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (100, 3))
    density = density_at(scene, params, points, chunk=33)
    np.testing.assert_allclose(density, density_at(scene, params, points), rtol=1e-5)
    outside = np.linalg.norm(points, axis=-1) > 1
    assert np.all(density[outside] == 0) and np.all(density[~outside] > 0)
    again, albedo = field_at(scene, params, points, chunk=33)
    np.testing.assert_allclose(again, density, rtol=1e-5)
    assert albedo.shape == (100, 3) and np.all((albedo > 0) & (albedo < 1))


def test_the_fields_variance_is_the_square_of_lambda_sigma(scene, params):
    assert float(prepare(scene, params, 0).tables.variance) == pytest.approx(2.5e-3)
    assert float(prepare(scene, params).tables.variance) == pytest.approx(4e-6)  # at the end


def test_scenes_are_seen_as_they_are_at_a_step(scene, params):
    scene = dataclasses.replace(scene, lambda_sigma=Ramp(9.0, 2e-3, 10))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    sharp, blurred = (field_at(scene, params, points, step)[1] for step in (10, 0))
    np.testing.assert_allclose(sharp, field_at(scene, params, points)[1], rtol=1e-5)
    # All octaves are damped to nothing: colors do not differ from place to place.
    assert np.ptp(blurred, axis=0).max() < 0.1 * np.ptp(sharp, axis=0).max()
