import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.baking import with_vertex_colors
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.scene.background import FlatColor
from dreamfusion_jax.scene.base import build_scene
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.lights import albedo_light, point_light
from dreamfusion_jax.scene.mesh.regularizers import Laplacian
from dreamfusion_jax.scene.mesh.sphere import SphereScene
from dreamfusion_jax.scene.mesh.subdivision import loop_limit, sphere
from dreamfusion_jax.scene.mesh.texture import blurred, look_up, octahedral, smaller_copies

CAMERAS = orbit_camera(jnp.array([0.3, 2.0]), 0.4, 1.5, 1.25)
ICOSAHEDRON = trimesh.creation.icosphere(0, 1.0)


def test_a_plane_and_lines_of_it_stay_where_they_are():
    """Subdivision has linear precision where all valences are 6: here away from the border."""
    n = 9
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    number = np.arange(n * n).reshape(n, n)
    low, right = number[:-1, :-1].ravel(), number[1:, :-1].ravel()
    up, far = number[:-1, 1:].ravel(), number[1:, 1:].ravel()
    faces = np.concatenate([np.stack([low, right, far], 1), np.stack([low, far, up], 1)])
    control = np.stack([x, y, 3 * x - y], -1).reshape(-1, 3).astype(np.float32)
    found = loop_limit(faces, n * n).of(jnp.asarray(control)).reshape(n, n, 3)
    inner = (slice(2, -2),) * 2
    np.testing.assert_allclose(found[inner], control.reshape(n, n, 3)[inner], atol=1e-5)
    finer = loop_limit(faces, n * n, 1)
    assert len(finer.faces) == 4 * len(faces)
    np.testing.assert_allclose(finer.of(jnp.asarray(control))[: n * n].reshape(n, n, 3)[inner],
                               control.reshape(n, n, 3)[inner], atol=1e-5)  # fmt: skip


def test_the_limit_is_where_subdivision_ends():
    """Vertices that were subdivided before they went to their limit go to the same places."""
    faces, control = np.asarray(ICOSAHEDRON.faces), jnp.float32(ICOSAHEDRON.vertices)
    control = control * jnp.array([1.0, 0.6, 1.4]) + 0.1 * control[:, ::-1] ** 2
    at_once, later = (loop_limit(faces, 12, k).of(control) for k in (0, 3))
    np.testing.assert_allclose(later[:12], at_once, atol=1e-6)
    np.testing.assert_allclose(later.mean(0), control.mean(0), atol=0.1)
    # The weights are those of an affine combination: they add up to 1.
    np.testing.assert_allclose(loop_limit(faces, 12, 2).weights.sum(0), 1, atol=1e-6)


@pytest.mark.parametrize("subdivisions", [0, 1])
def test_the_sphere_is_closed_and_round(subdivisions):
    control, surface = sphere(2, subdivisions)
    places = np.asarray(surface.of(jnp.asarray(control)))
    found = trimesh.Trimesh(places, surface.faces, process=False)
    assert found.is_watertight and found.volume > 0 and found.euler_number == 2
    assert len(surface.faces) == 20 * 4 ** (2 + subdivisions)
    radii = np.linalg.norm(places, axis=1)
    assert radii.std() < 0.01 and 0.9 < radii.mean() < 1


def test_directions_have_places_of_their_own_and_neighbors_lie_near():
    directions = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    places = np.asarray(octahedral(jnp.asarray(directions)))
    assert places.min() >= 0 and places.max() <= 1
    # Back again: the place says the direction.
    u, v = 2 * places.T - 1
    z = 1 - abs(u) - abs(v)
    x = np.where(z >= 0, u, (1 - abs(v)) * np.sign(u))
    y = np.where(z >= 0, v, (1 - abs(u)) * np.sign(v))
    back = np.stack([x, y, z], -1)
    back /= np.linalg.norm(back, axis=-1, keepdims=True)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    np.testing.assert_allclose(back, directions, atol=1e-5)
    np.testing.assert_allclose(octahedral(jnp.array([[0.0, 0.0, 2.0]])), [[0.5, 0.5]])


def test_textures_are_seen_as_sharp_as_pixels_can_show():
    texture = jax.random.uniform(jax.random.key(0), (16, 16, 2))
    places = jnp.array([[2.5 / 16, 7.5 / 16], [0.5, 0.25]])
    exact = look_up(texture, places, jnp.full(2, 1.0))
    np.testing.assert_allclose(exact[0], texture[2, 7], atol=1e-6)
    mean = (texture[7, 3] + texture[7, 4] + texture[8, 3] + texture[8, 4]) / 4
    np.testing.assert_allclose(exact[1], mean, atol=1e-6)
    far = look_up(texture, places, jnp.full(2, 1e6))
    np.testing.assert_allclose(far, jnp.broadcast_to(texture.mean((0, 1)), (2, 2)), atol=1e-3)
    between = look_up(texture, places, jnp.full(2, 2**0.5))
    half = look_up(smaller_copies(texture)[1], places, jnp.full(2, 1.0))
    np.testing.assert_allclose(between, (exact + half) / 2, atol=1e-5)
    with pytest.raises(ValueError, match="power of 2"):
        smaller_copies(jnp.zeros((6, 6, 1)))
    smooth = blurred(texture, 2.0, 5)
    np.testing.assert_allclose(blurred(jnp.ones((8, 8, 1)), 2.0, 5), 1.0, atol=1e-6)
    assert smooth.std() < 0.5 * texture.std()
    np.testing.assert_array_equal(blurred(texture, 0.0, 5), texture)


@pytest.fixture(scope="module")
def scene():
    return SphereScene(radius=0.6, halvings=3, texture_size=64, blur_std=0.0,
                       background=FlatColor(mean=0.5, std=0.0))  # fmt: skip


@pytest.fixture(scope="module")
def params(scene):
    """Red above, blue below."""
    size = scene.texture_size
    u, v = np.meshgrid(*[(np.arange(size) + 0.5) / size * 2 - 1] * 2, indexing="ij")
    upper = (1 - abs(u) - abs(v) > 0)[..., None]
    texture = np.where(upper, [0.8, 0.1, 0.1], [0.1, 0.2, 0.8]).astype(np.float32)
    return scene.init(jax.random.key(0)) | {"texture": jnp.asarray(texture)}


@functools.partial(jax.jit, static_argnums=(0, 4))
def draw(scene, params, cameras, lights, size):
    return scene.draw(params, cameras, lights, image_size=size)


def test_a_sphere_is_drawn_with_its_texture_and_its_normals(scene, params):
    lights = point_light(CAMERAS.position, ambient=0.1, diffuse=0.9)
    views = draw(scene, params, CAMERAS, lights, 64)
    area = math.pi * (1.25 * 0.3) ** 2 / (1.5**2 - 0.3**2)
    np.testing.assert_allclose(views.opacity.mean((1, 2)), area, rtol=0.03)
    albedo, normals = np.asarray(views.albedo[0]), np.asarray(views.normals[0])
    whole = np.asarray(views.opacity[0]) > 0.999
    above, below = (whole & (sign * normals[..., 2] > 0.15) for sign in (1, -1))
    np.testing.assert_allclose(albedo[above].mean(0), [0.8, 0.1, 0.1], atol=0.02)
    np.testing.assert_allclose(albedo[below].mean(0), [0.1, 0.2, 0.8], atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(normals[whole], axis=-1), 1, atol=0.01)
    turned = params | {"normal_map": params["normal_map"].at[..., 0].set(1.0)}
    bent = np.asarray(draw(scene, turned, CAMERAS, lights, 64).normals[0])
    cosine = (bent[whole] * normals[whole]).sum(-1)
    np.testing.assert_allclose(cosine, math.sqrt(0.5), atol=0.03)
    np.testing.assert_allclose(bent[whole][:, 2], normals[whole][:, 2] * math.sqrt(0.5), atol=0.03)


def test_training_moves_all_of_it(scene, params):
    lights, keys = point_light(CAMERAS.position), jax.random.split(jax.random.key(1), 2)

    @jax.jit
    @jax.grad
    def slope(params):
        views = scene.render(params, CAMERAS, lights, keys, 0, image_size=32)
        return jnp.mean(views.rgb**2) + Laplacian().of(views, jnp.array(0))

    slopes = slope(params)
    for name in ("vertices", "texture", "normal_map"):
        assert np.isfinite(slopes[name]).all() and np.abs(slopes[name]).max() > 0, name


def test_colors_that_left_their_range_can_come_back(scene, params):
    bright = params | {"texture": params["texture"] * 0 + 1.5}

    @jax.jit
    @jax.value_and_grad
    def brightness(params):
        return jnp.sum(draw.__wrapped__(scene, params, CAMERAS, albedo_light((2,)), 16).rgb)

    value, slopes = brightness(bright)
    white = params | {"texture": params["texture"] * 0 + 1.0}
    np.testing.assert_allclose(value, brightness(white)[0], rtol=1e-5)
    assert slopes["texture"].sum() > 1


def test_points_find_their_place_on_the_surface(scene, params):
    stretched = params | {"vertices": params["vertices"] * jnp.array([1.0, 1.5, 1.0])}
    mesh = scene.surface(stretched)
    rng = np.random.default_rng(0)
    face, weights = rng.integers(0, len(mesh.faces), 500), rng.dirichlet(np.ones(3), 500)
    corners = np.asarray(mesh.vertices)[np.asarray(mesh.faces)[face]]
    places = np.einsum("nk,nkd->nd", weights, corners)
    found = jax.jit(scene.at_points)(stretched, jnp.float32(places))
    upper = places[:, 2] > 0.02
    np.testing.assert_allclose(found.albedo[upper][:, 0].mean(), 0.8, atol=0.03)
    np.testing.assert_allclose(found.albedo[places[:, 2] < -0.02][:, 2].mean(), 0.8, atol=0.03)
    inside, outside = (scene.at_points(stretched, jnp.float32(places * s)) for s in (0.9, 1.1))
    assert (inside.density > 0).mean() > 0.99 and (outside.density == 0).mean() > 0.99


def test_its_file_has_its_colors(scene, params):
    mesh = extract_mesh(scene, params)
    assert mesh.is_watertight and len(mesh.faces) == 1280
    colors = with_vertex_colors(scene, params, mesh).visual.vertex_colors
    upper = mesh.vertices[:, 2] > 0.05
    np.testing.assert_allclose(colors[upper][:, :3].mean(0), [204, 26, 26], atol=4)


def test_another_scene_keeps_the_background_alone():
    config = load_config("quick")
    override(config, {"scene.name": "sphere", "scene.texture_size": 32})
    scene = build_scene(config.scene)
    assert isinstance(scene, SphereScene) and scene.texture_size == 32
    assert "field" not in config.scene and scene.radius == 0.52
    assert scene.background == FlatColor(mean=0.5, std=0.3)
    assert dataclasses.replace(scene) == scene and hash(scene) == hash(build_scene(config.scene))


@pytest.mark.parametrize(("key", "value"), [("texture_size", 48), ("halvings", 9), ("sphere", 2.0)])
def test_a_config_that_makes_no_sense_is_refused(key, value):
    config = load_config("quick")
    override(config, {"scene.name": "sphere", f"scene.{key}": value})
    with pytest.raises(UserError, match=key):
        build_scene(config.scene)
