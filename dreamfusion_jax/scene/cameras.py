"""Cameras: the paper's random ones (section 3.2, appendix A.2) and orbits for inspection."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dreamfusion_jax.distributions import Bernoulli, Normal, Uniform
from dreamfusion_jax.types import Camera


@dataclasses.dataclass(frozen=True)
class CameraDistribution:
    """Where training views are taken from. Angles in degrees, deltas in scene units.

    With probability `uniform_on_sphere_probability` the elevation is uniform in area on the part of
    the upper half sphere inside `elevation_range`, otherwise uniform in angle. The
    paper writes N(0, 0.2 I) and N(0, 0.02 I) for the look-at point and the up vector;
    both numbers are read as standard deviations, as other code bases do too.
    """

    elevation_range: tuple[float, float] = (-10.0, 90.0)
    uniform_on_sphere_probability: float = 0.5
    azimuth_range: tuple[float, float] = (0.0, 360.0)
    distance_range: tuple[float, float] = (1.0, 1.5)
    position_jitter: float = 0.1
    look_at_std: float = 0.2
    up_std: float = 0.02
    focal_range: tuple[float, float] = (0.7, 1.35)


def spherical_to_cartesian(
    azimuth: Float[Array, "*batch"],
    elevation: Float[Array, "*batch"],
    distance: Float[Array, "*batch"],
) -> Float[Array, "*batch 3"]:
    """Return the point at the given angles (radians) and distance from the origin; z is up."""
    return distance[..., None] * jnp.stack(
        [
            jnp.cos(elevation) * jnp.cos(azimuth),
            jnp.cos(elevation) * jnp.sin(azimuth),
            jnp.sin(elevation),
        ],
        axis=-1,
    )


def look_at(
    position: Float[Array, "*batch 3"],
    target: Float[Array, "*batch 3"],
    up: Float[Array, "*batch 3"],
) -> Float[Array, "*batch 3 3"]:
    """Return a rotation with the columns right, up and backward of a camera that faces `target`."""
    backward = _normalize(position - target)
    right = _normalize(jnp.cross(up, backward))
    return jnp.stack([right, jnp.cross(backward, right), backward], axis=-1)


def sample_camera(key: PRNGKeyArray, distribution: CameraDistribution) -> Camera:
    """Draw one camera."""
    d = distribution
    keys = jax.random.split(key, 7)
    azimuth = _uniform(keys[0], [math.radians(a) for a in d.azimuth_range])
    elevation = _sample_elevation(keys[1], d)
    distance = _uniform(keys[2], d.distance_range)
    position = spherical_to_cartesian(azimuth, elevation, distance)
    jitter = (-d.position_jitter, d.position_jitter)
    position = position + _uniform(keys[3], jitter, (3,))
    target = d.look_at_std * _normal(keys[4], (3,))
    # Orthogonal to the perturbed line of sight it becomes in `look_at`: the horizon stays level but
    # for its own noise. A little of the tangent decides where the view is along z itself.
    vertical = jnp.array([0.0, 0.0, 1.0]) + 1e-4 * _up_vector(azimuth, elevation)
    up = vertical + d.up_std * _normal(keys[5], (3,))
    return Camera(
        position=position,
        rotation=look_at(position, target, up),
        focal=_uniform(keys[6], d.focal_range),
        azimuth=azimuth,
        elevation=elevation,
    )


def turned(camera: Camera, angle: Float[Array, ""]) -> Camera:
    """Return a camera turned about the vertical axis, by an angle in radians."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.stack([jnp.stack([c, -s, 0 * c]), jnp.stack([s, c, 0 * c]), jnp.eye(3)[2]])
    # Not a matrix product: accelerators would round its factors.
    position = jnp.sum(turn * camera.position, -1)
    rotation = jnp.sum(turn[:, :, None] * camera.rotation[None], 1)
    azimuth = (camera.azimuth + angle) % (2 * jnp.pi)
    return dataclasses.replace(camera, position=position, rotation=rotation, azimuth=azimuth)


def choose(key: PRNGKeyArray, cameras: Camera) -> Camera:
    """Draw one of some cameras."""
    index = jax.random.randint(key, (), 0, cameras.focal.shape[0])
    return jax.tree.map(lambda x: x[index], cameras)


@jax.jit
def orbit_camera(
    azimuth: Float[Array, "*batch"],
    elevation: float | Float[Array, "*#batch"],
    distance: float | Float[Array, "*#batch"],
    focal: float | Float[Array, "*#batch"],
) -> Camera:
    """Return cameras that look at the origin; angles in radians, focal length in image widths."""
    azimuth = jnp.asarray(azimuth, jnp.float32)

    def each(value):
        return jnp.broadcast_to(jnp.asarray(value, jnp.float32), azimuth.shape)

    position = spherical_to_cartesian(azimuth, each(elevation), each(distance))
    up = _up_vector(azimuth, each(elevation))
    return Camera(
        position=position,
        rotation=look_at(position, jnp.zeros_like(position), up),
        focal=each(focal),
        azimuth=azimuth,
        elevation=each(elevation),
    )


def _up_vector(
    azimuth: Float[Array, "*batch"], elevation: Float[Array, "*batch"]
) -> Float[Array, "*batch 3"]:
    # The tangent towards the zenith: equals z projected on the image plane, and stays
    # well defined for a camera straight overhead, where z itself is the view direction.
    return jnp.stack(
        [
            -jnp.sin(elevation) * jnp.cos(azimuth),
            -jnp.sin(elevation) * jnp.sin(azimuth),
            jnp.cos(elevation),
        ],
        axis=-1,
    )


def _sample_elevation(key: PRNGKeyArray, d: CameraDistribution) -> Float[Array, ""]:
    choice_key, angle_key, area_key = jax.random.split(key, 3)
    low, high = (math.radians(e) for e in d.elevation_range)
    in_angle = _uniform(angle_key, (low, high))
    # Area on a sphere is uniform in the sine of the elevation.
    in_area = jnp.arcsin(_uniform(area_key, (math.sin(min(max(low, 0.0), high)), math.sin(high))))
    by_area = Bernoulli(probs=d.uniform_on_sphere_probability).sample(seed=choice_key)
    return jnp.where(by_area == 1, in_area, in_angle)


def _uniform(key: PRNGKeyArray, bounds, shape: tuple[int, ...] = ()) -> Array:
    low, high = bounds
    if high == low:  # a fixed value
        return jnp.full(shape, low, jnp.float32)
    return Uniform(low, high).sample(seed=key, sample_shape=shape)


def _normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    return Normal(0.0, 1.0).sample(seed=key, sample_shape=shape)


def _normalize(v: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    return v * jax.lax.rsqrt(jnp.sum(v * v, axis=-1, keepdims=True) + 1e-20)
