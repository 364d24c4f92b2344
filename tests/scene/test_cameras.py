import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.scene.cameras import (
    CameraDistribution,
    look_at,
    orbit_camera,
    sample_camera,
    spherical_to_cartesian,
)

COUNT = 20_000


def draw(distribution: CameraDistribution, count: int = COUNT):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.jit(jax.vmap(lambda key: sample_camera(key, distribution)))(keys)


@pytest.fixture(scope="module")
def cameras():
    return draw(CameraDistribution())


def test_azimuth_and_focal_length_are_uniform(cameras):
    for values, low, high in ((cameras.azimuth, 0, 2 * np.pi), (cameras.focal, 0.7, 1.35)):
        values = np.asarray(values)
        assert low <= values.min() and values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, rel=0.02)
        assert values.std() == pytest.approx((high - low) / 12**0.5, rel=0.02)


def test_elevation_is_half_uniform_in_area_and_half_in_angle(cameras):
    elevation = np.asarray(cameras.elevation)
    low, high = np.radians(-10), np.radians(90)
    assert low <= elevation.min() and elevation.max() <= high

    def below(angle):  # the distribution function of the mixture
        in_angle = (angle - low) / (high - low)
        return 0.5 * in_angle + 0.5 * np.sin(max(angle, 0.0))

    for angle in np.radians((-5, 0, 20, 45, 70)):
        assert np.mean(elevation < angle) == pytest.approx(below(angle), abs=0.012)


def test_positions_lie_at_the_papers_distances_with_jitter(cameras):
    exact = draw(CameraDistribution(position_jitter=0.0))
    distance = np.linalg.norm(exact.position, axis=-1)
    assert 1 - 1e-5 <= distance.min() and distance.max() <= 1.5 + 1e-5
    assert distance.mean() == pytest.approx(1.25, abs=0.01)
    jitter = np.asarray(cameras.position - exact.position)  # the same keys: the same places
    assert np.abs(jitter).max() <= 0.1 + 1e-5
    assert jitter.std(axis=0) == pytest.approx(0.2 / 12**0.5, rel=0.03)


def test_cameras_look_near_the_origin():
    still = CameraDistribution(position_jitter=0.0, look_at_std=0.0, up_std=0.0)
    cameras = draw(still, 100)
    towards = -cameras.position / jnp.linalg.norm(cameras.position, axis=-1, keepdims=True)
    np.testing.assert_allclose(-cameras.rotation[..., 2], towards, atol=1e-5)
    # With a look-at point ~ N(0, 0.2^2 I) the line of sight misses by 0.2 a direction.
    cameras = draw(CameraDistribution(position_jitter=0.0, look_at_std=0.2))
    forward = -cameras.rotation[..., 2]
    along = jnp.sum(forward * cameras.position, -1, keepdims=True)
    miss = np.asarray(cameras.position - along * forward)
    assert np.sqrt((miss**2).sum(-1).mean() / 2) == pytest.approx(0.2, rel=0.06)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 30, 1.2), (30, 60, 2.0), (60, 75, 5.0), (75, 89, 12.0)]
)
def test_the_horizon_stays_level_but_for_the_noise_of_up(low, high, expected):
    """The standard deviation of the roll, in degrees."""
    cameras = draw(
        CameraDistribution(elevation_range=(low, high), uniform_on_sphere_probability=0.0)
    )
    right, up = (np.asarray(cameras.rotation[..., i]) for i in (0, 1))
    roll = np.degrees(np.arctan2(right[:, 2], up[:, 2]))
    assert roll.std() == pytest.approx(expected, rel=0.25)
    level = draw(CameraDistribution(elevation_range=(low, high), up_std=0.0))
    np.testing.assert_allclose(level.rotation[..., 2, 0], 0, atol=1e-3)


def test_rotations_are_rotations_also_straight_overhead(cameras):
    overhead = orbit_camera(jnp.linspace(0, 6, 7), np.pi / 2, 1.5, 1.0)
    still = {"position_jitter": 0.0, "look_at_std": 0.0, "up_std": 0.0}
    drawn = draw(CameraDistribution(elevation_range=(90.0, 90.0), **still), 100)
    for rotation in (cameras.rotation, overhead.rotation, drawn.rotation):
        identity = jnp.broadcast_to(jnp.eye(3), rotation.shape)
        product = jnp.einsum("...ij,...kj->...ik", rotation, rotation)
        np.testing.assert_allclose(product, identity, atol=2e-5)
        np.testing.assert_allclose(jnp.linalg.det(rotation), 1.0, atol=2e-5)


def test_a_camera_on_x_has_y_on_its_right_and_z_above():
    rotation = look_at(jnp.array([2.0, 0, 0]), jnp.zeros(3), jnp.array([0.0, 0, 1]))
    np.testing.assert_allclose(rotation.T, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-6)


def test_spherical_coordinates():
    position = spherical_to_cartesian(jnp.array(np.pi / 2), jnp.array(np.pi / 6), jnp.array(2.0))
    np.testing.assert_allclose(position, [0.0, 3**0.5, 1.0], atol=1e-6)


def test_a_range_of_equal_ends_is_a_fixed_value():
    cameras = draw(CameraDistribution(distance_range=(1.5, 1.5), focal_range=(1.25, 1.25)), 10)
    assert np.all(np.asarray(cameras.focal) == 1.25)
