import jax.numpy as jnp
import numpy as np

from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.rays import cast_rays, intersect_sphere


def test_rays_pass_through_pixel_centers():
    camera = orbit_camera(jnp.array(0.0), 0.0, 2.0, 1.25)  # on +x, looks along -x
    rays = cast_rays(camera, 4, 1.0)
    np.testing.assert_allclose(jnp.linalg.norm(rays.directions, axis=-1), 1.0, rtol=1e-6)
    # On the plane x = 2 - 1.25 the image is one unit wide, y to the right and z up.
    at_image = rays.origins + rays.directions * (1.25 / -rays.directions[..., :1])
    centers = (np.arange(4) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(at_image[..., 1], np.tile(centers, (4, 1)), atol=1e-6)
    np.testing.assert_allclose(at_image[..., 2], np.tile(-centers[:, None], (1, 4)), atol=1e-6)


def test_near_and_far_lie_on_the_sphere():
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(200, 3)).astype(np.float32)
    directions = rng.normal(size=(200, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    bounds = intersect_sphere(jnp.array(origins), jnp.array(directions), 1.0)
    near, far = map(np.asarray, bounds)
    assert np.all(near >= 0) and np.all(far >= near)
    hit = far > near
    at_far = origins + far[:, None] * directions
    np.testing.assert_allclose(np.linalg.norm(at_far[hit], axis=-1), 1.0, atol=1e-5)
    outside = hit & (np.linalg.norm(origins, axis=-1) > 1)
    at_near = origins + near[:, None] * directions
    np.testing.assert_allclose(np.linalg.norm(at_near[outside], axis=-1), 1.0, atol=1e-5)
    inside = np.linalg.norm(origins, axis=-1) < 1
    assert np.all(hit[inside]) and np.all(near[inside] == 0)
    closest = np.linalg.norm(np.cross(origins, directions), axis=-1)
    ahead = np.sum(origins * directions, -1) < 0
    np.testing.assert_array_equal(hit, inside | ((closest < 1) & ahead))
