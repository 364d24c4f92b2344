"""Grid fields, their interpolation, and the placing of samples by a grid of densities."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.compaction import most_important, spread
from dreamfusion_jax.scene.fields import Field, GridField, HashGridField
from dreamfusion_jax.scene.fields.hash_grid import interpolate_hashed
from dreamfusion_jax.scene.fields.interpolation import (
    gather_trilinear,
    product_trilinear,
    refine,
)
from dreamfusion_jax.scene.lights import albedo_light
from dreamfusion_jax.scene.nerf import NerfScene, render_rays
from dreamfusion_jax.scene.occupancy import EMPTY, fit_density_grid, look_up
from dreamfusion_jax.scene.ray_samplers import DensityGridSampler, HierarchicalSampler
from dreamfusion_jax.scene.rays import cast_rays

RNG = np.random.default_rng(0)


def trilinear(grid, place):
    """The ten lines of numpy that both ways must agree with."""
    low = np.minimum(np.floor(place).astype(int), len(grid) - 2)
    share = place - low
    total = np.zeros(grid.shape[-1])
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([s if c else 1 - s for s, c in zip(share, corner, strict=True)])
        total += weight * grid[tuple(low + corner)]
    return total


@pytest.mark.parametrize("interpolate", [gather_trilinear, product_trilinear])
def test_both_ways_interpolate_as_numpy_does(interpolate):
    grid = RNG.normal(size=(6, 6, 6, 4)).astype(np.float32)
    places = RNG.uniform(0, 5, (40, 3)).astype(np.float32)
    places[:3] = [[0, 0, 0], [5, 5, 5], [5, 0, 2.5]]
    (found,) = jax.jit(lambda g, p: interpolate([g], p))(grid, places)
    expected = [trilinear(grid.astype(float), place) for place in places.astype(float)]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_both_ways_have_the_same_gradients():
    grid = RNG.normal(size=(5, 5, 5, 2)).astype(np.float32)
    places = RNG.uniform(0.1, 3.9, (30, 3)).astype(np.float32)

    def loss(interpolate, grid, places):
        (found,) = interpolate([grid], places)
        return jnp.sum(jnp.sin(3 * found))

    gathered, multiplied = (
        jax.jit(jax.grad(functools.partial(loss, way), argnums=(0, 1)))(grid, places)
        for way in (gather_trilinear, product_trilinear)
    )
    for a, b in zip(gathered, multiplied, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
        assert np.abs(a).max() > 0.1


def test_a_refined_grid_is_the_same_function():
    grid = RNG.normal(size=(4, 4, 4, 2)).astype(np.float32)
    fine = np.asarray(jax.jit(refine)(grid))
    assert fine.shape == (7, 7, 7, 2)
    np.testing.assert_allclose(fine[::2, ::2, ::2], grid, atol=1e-6)
    expected = trilinear(grid.astype(float), np.array([0.5, 2.0, 1.5]))
    np.testing.assert_allclose(fine[1, 4, 3], expected, atol=1e-6)


def grid_params(field, log_density, albedo=0.0):
    """Parameters of a grid field that has a log density, given by a function of the corners."""
    params = field.init(jax.random.key(0), jnp.zeros((1, 3)), 0.0, 0)
    finest = f"level{field.levels - 1}"
    axis = jnp.linspace(-field.radius, field.radius, field.cells + 1)
    corners = jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), -1)
    values = params["params"][finest] + albedo
    values = values.at[..., 0].set(log_density(corners))
    return {"params": params["params"] | {finest: values}}


def soft(signed_distance):
    """Log density of a body that is dense within a few cells of its surface."""
    return jnp.clip(300 * signed_distance, -12.0, 6.0)


@pytest.mark.parametrize("smoothing", [1, 2])
def test_normals_of_a_sphere_and_a_plane(smoothing):
    field = GridField(blob_scale=0.0, radius=0.5, smoothing=smoothing)
    direction = RNG.normal(size=(200, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    tilt = np.array([0.3, -0.5, 0.81])
    tilt /= np.linalg.norm(tilt)
    across = RNG.uniform(-0.2, 0.2, (200, 3))
    across -= (across @ tilt)[:, None] * tilt
    cases = (
        (lambda x: soft(0.3 - jnp.linalg.norm(x, axis=-1)), 0.3 * direction, direction),
        (lambda x: soft(-x @ tilt), across, np.broadcast_to(tilt, across.shape)),
    )
    for log_density, points, expected in cases:
        params = grid_params(field, log_density)
        out = jax.jit(lambda p, x: field.query(field.prepare(p, 0.0), x))(params, points)
        degrees = np.degrees(np.arccos(np.clip(np.sum(out.normals * expected, -1), -1, 1)))
        assert np.mean(degrees) < 2


def test_gaussians_damp_the_levels_that_are_finer_than_they():
    field = GridField(cells=32, levels=3, blob_scale=0.0)
    params = grid_params(field, lambda x: jnp.sin(40 * x[..., 0]))
    points = RNG.uniform(-0.4, 0.4, (100, 3))

    def spread_at(lambda_sigma):
        return np.std(jax.jit(field.apply)(params, points, lambda_sigma**2, 0)[0])

    assert spread_at(2e-3) > 0.9 * spread_at(0.0) > 0.3
    assert spread_at(0.2) < 0.05 * spread_at(0.0)


@pytest.mark.slow
def test_the_module_is_what_is_rendered():
    field = GridField(cells=16, levels=3)
    params = grid_params(field, lambda x: 3 * jnp.sin(9 * x[..., 1]), albedo=0.3)
    points = RNG.uniform(-0.5, 0.5, (5, 10, 3))
    log_density, albedo = jax.jit(field.apply)(params, points, 1e-4, 0)
    out = jax.jit(lambda p, x: field.query(field.prepare(p, 1e-4), x))(params, points)
    np.testing.assert_allclose(out.density, np.exp(log_density), rtol=1e-4)
    np.testing.assert_allclose(out.albedo, albedo, atol=1e-6)
    multiplied = dataclasses.replace(field, by_products=True)
    again = jax.jit(lambda p, x: multiplied.query(multiplied.prepare(p, 1e-4), x))(params, points)
    for name in ("density", "albedo", "normals"):
        np.testing.assert_allclose(getattr(again, name), getattr(out, name), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("rows", [9**3, 64])
def test_hashed_levels_interpolate_between_their_corners(rows):
    table = RNG.normal(size=(rows, 2)).astype(np.float32)
    corners = np.linspace(-1, 1, 9)
    ends = np.array([[corners[3], corners[5], corners[2]], [corners[4], corners[5], corners[2]]])
    points = np.concatenate([ends, ends.mean(0, keepdims=True)]).astype(np.float32)
    found = jax.jit(lambda t, p: interpolate_hashed(t, p, 1.0, 8))(table, points)
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, atol=1e-5)
    assert any(np.allclose(found[0], row, atol=1e-5) for row in table)


def test_the_hash_grid_field_has_gradients_and_normals():
    field = HashGridField(levels=3, base_cells=4, cells=16, log2_table=8, width=8)
    points = jnp.asarray(RNG.uniform(-0.5, 0.5, (50, 3)), jnp.float32)
    params = jax.jit(field.init)(jax.random.key(0), points, 0.0, 0)

    def loss(params):
        out = field.query(field.prepare(params, 0.0), points)
        return jnp.sum(out.density) + jnp.sum(out.albedo), out

    gradient, out = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert all(np.any(g != 0) for g in jax.tree.leaves(gradient))
    np.testing.assert_allclose(np.linalg.norm(out.normals, axis=-1), 1, atol=1e-2)
    # Untrained, its density is the blob's: normals point outwards.
    outwards = points / jnp.linalg.norm(points, axis=-1, keepdims=True)
    assert np.median(np.sum(out.normals * outwards, -1)) > 0.99


class Body(Field):
    """A hard ball, and a thin rod beside it."""

    rod: float = 0.0

    def __call__(self, mean, variance, step):
        ball = 0.2 - jnp.linalg.norm(mean, axis=-1)
        away = jnp.linalg.norm(mean[..., :2] - jnp.array([0.3, 0.1]), axis=-1)
        inside = jnp.maximum(ball, jnp.where(jnp.abs(mean[..., 2]) < 0.3, self.rod - away, -1.0))
        return jnp.clip(4000 * inside, -40.0, 6.0), jnp.broadcast_to(0.5, mean.shape)


def views(scene, grid, key=None):
    camera = orbit_camera(jnp.array(0.4), 0.3, 1.5, 1.25)
    rays = cast_rays(camera, 24, scene.radius)
    white = jnp.ones_like(rays.directions)
    render = jax.jit(functools.partial(render_rays, scene))
    return render({"field": {}}, rays, albedo_light(), white, key, grid=grid)


@pytest.mark.slow
def test_a_density_grid_shows_what_dense_sampling_does():
    field = Body(rod=0.03)
    fast = NerfScene(
        field=field, sampler=DensityGridSampler(budget=1.0, fine_samples=64), radius=0.52
    )
    dense = dataclasses.replace(fast, sampler=HierarchicalSampler(256, 256))
    grid = fast.sampler.initial_grid(fast.field, fast.field.prepare({}, 0.0))
    difference = np.abs(views(fast, grid).opacity - views(dense, None).opacity)
    assert difference.mean() < 0.01


@pytest.mark.parametrize("seeded", [False, True])
def test_leaving_out_empty_samples_changes_no_pixel(seeded):
    whole = NerfScene(field=Body(rod=0.03), sampler=DensityGridSampler(budget=1.0), radius=0.52)
    some = dataclasses.replace(whole, sampler=DensityGridSampler(budget=0.6))
    grid = whole.sampler.initial_grid(whole.field, whole.field.prepare({}, 0.0))
    key = jax.random.key(0) if seeded else None
    a, b = views(whole, grid, key), views(some, grid, key)
    np.testing.assert_allclose(a.rgb, b.rgb, atol=1e-5)
    np.testing.assert_allclose(a.depth, b.depth, atol=1e-5)


@pytest.mark.slow
def test_a_surface_that_appears_late_is_found():
    sampler = DensityGridSampler()
    empty, grown = (
        NerfScene(field=Body(rod=r), sampler=sampler, radius=0.52) for r in (-0.1, 0.03)
    )
    grid = sampler.initial_grid(empty.field, empty.field.prepare({}, 0.0))
    rod = jnp.array([[0.3, 0.1, z] for z in (-0.2, 0.0, 0.2)])
    assert look_up(grid, rod, 0.52).max() < 1e-3
    grid = jax.jit(lambda g, k: sampler.refresh(g, grown.field, grown.field.prepare({}, 0.0), k))(
        grid, jax.random.key(0)
    )
    assert look_up(grid, rod, 0.52).min() > 1
    expected = views(
        grown, grown.sampler.initial_grid(grown.field, grown.field.prepare({}, 0.0))
    ).opacity
    assert np.abs(views(grown, grid).opacity - expected).mean() < 0.01
    # And what is gone is forgotten.
    for i in range(120):
        grid = jax.jit(
            lambda g, k: sampler.refresh(g, empty.field, empty.field.prepare({}, 0.0), k)
        )(grid, jax.random.key(i))
    assert look_up(grid, rod, 0.52).max() < 0.02


def test_the_most_important_are_chosen():
    importance = jnp.asarray(RNG.permutation(np.linspace(0.0, 1.0, 100)), jnp.float32)
    index, place = jax.jit(most_important, static_argnums=1)(importance, 30, None)
    chosen = np.flatnonzero(np.asarray(place) >= 0)
    assert set(chosen) == set(np.argsort(importance)[-30:])
    np.testing.assert_array_equal(np.sort(index), chosen)
    values = spread(importance[index], place)
    np.testing.assert_allclose(values[chosen], importance[chosen])
    assert np.sum(values != 0) == 30
    # Room is left where little matters, and is filled at random.
    sparse = jnp.where(importance > 0.9, importance, 0.0)
    _, bare = jax.jit(most_important, static_argnums=1)(sparse, 30, None)
    assert np.sum(np.asarray(bare) >= 0) == np.sum(sparse > 0)
    _, filled = jax.jit(most_important, static_argnums=1)(sparse, 30, jax.random.key(0))
    assert np.sum(np.asarray(filled) >= 0) == 30 and np.all(np.asarray(filled)[sparse > 0] >= 0)


def test_the_density_grid_is_that_of_the_field():
    field = Body(radius=0.52)
    grid = fit_density_grid(field, field.prepare({}, 0.0), 32)
    assert grid.log_density.shape == (33, 33, 33) and grid.log_density[16, 16, 16] > 5
    assert grid.log_density[0, 0, 0] == EMPTY  # outside the sphere
