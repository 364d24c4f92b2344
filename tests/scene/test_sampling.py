import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.sampling import fine_edges, stratified_points, uniform_edges
from dreamfusion_jax.types import Rays


@pytest.fixture
def rays():
    near = jnp.array([0.5, 1.0, 0.0])
    return Rays(jnp.zeros((3, 3)), jnp.eye(3), near, jnp.array([2.5, 1.5, 0.0]))  # one misses


def test_uniform_edges_span_the_ray(rays):
    t_vals = uniform_edges(rays, 4)
    np.testing.assert_allclose(t_vals[0], [0.5, 1.0, 1.5, 2.0, 2.5], rtol=1e-6)
    assert np.all(t_vals[2] == 0)


def test_one_stratified_point_in_each_interval(rays, key):
    t_vals = uniform_edges(rays, 100)
    points = np.asarray(stratified_points(t_vals, key))
    assert np.all(points >= t_vals[:, :-1]) and np.all(points <= t_vals[:, 1:])
    fractions = (points[0] - t_vals[0, :-1]) / 0.02
    assert fractions.mean() == pytest.approx(0.5, abs=0.1) and fractions.std() > 0.2
    middle = stratified_points(t_vals, None)
    np.testing.assert_allclose(middle, (t_vals[:, 1:] + t_vals[:, :-1]) / 2, rtol=1e-6)


@pytest.mark.parametrize("with_key", [False, True])
def test_fine_edges_are_sorted_and_crowd_where_the_weight_is(rays, key, with_key):
    t_vals = uniform_edges(rays, 20)
    weights = jnp.zeros((3, 20)).at[:, 12].set(0.9)
    place = jax.jit(functools.partial(fine_edges, key=key if with_key else None, intervals=16))
    fine = np.asarray(place(t_vals, weights))
    assert fine.shape == (3, 17)
    assert np.all(np.diff(fine, axis=-1) >= 0)
    np.testing.assert_array_equal(fine[:, [0, -1]], t_vals[:, [0, -1]])
    within = (fine >= t_vals[:, 11:12]) & (fine <= t_vals[:, 14:15])
    assert np.all(within[:2].sum(-1) >= 13)


def test_empty_rays_get_uniform_fine_edges(rays):
    fine = fine_edges(uniform_edges(rays, 20), jnp.zeros((3, 20)), None, intervals=8)
    np.testing.assert_allclose(fine, uniform_edges(rays, 8), atol=1e-5)


def test_fine_edges_have_no_gradient(rays):
    t_vals = uniform_edges(rays, 10)
    gradient = jax.jit(jax.grad(lambda w: jnp.sum(fine_edges(t_vals, w, None, intervals=5))))
    assert np.all(gradient(jnp.full((3, 10), 0.05)) == 0)
