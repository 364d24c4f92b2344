import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.mesh import rasterizer
from dreamfusion_jax.scene.mesh.rasterizer import NOTHING, interpolate, rasterize
from dreamfusion_jax.scene.mesh.work_list import nearest_owner
from dreamfusion_jax.scene.rays import along, cast_rays


@pytest.fixture
def draw():
    """`rasterize`, compiled anew: with what a test has changed in the module."""
    return jax.jit(rasterize, static_argnames=("size", "cull"))


def z_buffer(vertices, faces, camera, size):
    """Return faces and depths by another way, in float64: each triangle against each of its pixels,
    in the plane of the image."""
    position, rotation = (np.asarray(x, np.float64) for x in (camera.position, camera.rotation))
    seen = (np.asarray(vertices, np.float64) - position) @ rotation
    depth = -seen[:, 2]
    x = (float(camera.focal) * seen[:, 0] / depth + 0.5) * size - 0.5
    y = (0.5 - float(camera.focal) * seen[:, 1] / depth) * size - 0.5
    nearest, owner = np.full((size, size), np.inf), np.full((size, size), -1)
    for number, corners in enumerate(np.asarray(faces)):
        (ax, bx, cx), (ay, by, cy) = x[corners], y[corners]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        columns = np.arange(max(math.ceil(min(ax, bx, cx)), 0), min(max(ax, bx, cx) + 1, size))
        rows = np.arange(max(math.ceil(min(ay, by, cy)), 0), min(max(ay, by, cy) + 1, size))
        if area == 0 or not len(columns) or not len(rows):
            continue
        u, v = np.meshgrid(columns.astype(int), rows.astype(int))
        second = ((u - ax) * (cy - ay) - (cx - ax) * (v - ay)) / area
        third = ((bx - ax) * (v - ay) - (u - ax) * (by - ay)) / area
        weights = np.stack([1 - second - third, second, third])
        away = 1 / np.einsum("k,kyx->yx", 1 / depth[corners], weights)
        wins = (weights >= 0).all(0) & (away < nearest[v, u])
        nearest[v[wins], u[wins]], owner[v[wins], u[wins]] = away[wins], number
    offset = (np.arange(size) + 0.5) / size - 0.5
    stretch = np.hypot(np.hypot(*np.meshgrid(offset, offset)), float(camera.focal))
    return owner, np.where(owner >= 0, nearest * stretch / float(camera.focal), 0.0)


def soup(count):
    """Triangles that cut each other, of all sizes, seen from both sides."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(count, 1, 3)) * 0.3
    places = places + rng.normal(size=(count, 3, 3)) * rng.uniform(0.01, 0.3, (count, 1, 1))
    faces = np.arange(3 * count).reshape(-1, 3)
    return jnp.asarray(places.reshape(-1, 3), jnp.float32), jnp.asarray(faces, jnp.int32)


@pytest.mark.parametrize("kind", ["closed", "soup"])
def test_faces_and_depths_are_those_of_another_rasterizer(draw, bumpy, kind):
    vertices, faces = soup(400) if kind == "soup" else (bumpy(5).vertices, bumpy(5).faces)
    cameras = orbit_camera(jnp.array([0.3, 2.0]), 0.4, 1.9, 1.25)
    found = draw(vertices, faces, cameras, size=128)
    for i in range(2):
        camera = jax.tree.map(lambda x, i=i: x[i], cameras)
        face, depth = z_buffer(vertices, faces, camera, 128)
        same = np.asarray(found.face[i]) == face
        assert same.mean() > 0.999
        assert (face >= 0).mean() > 0.2
        np.testing.assert_allclose(found.depth[i][same], depth[same], atol=1e-5)


def test_both_ways_of_looking_give_the_same(bumpy, monkeypatch):
    cameras = orbit_camera(jnp.array([0.3, 2.0]), 0.4, 1.5, 1.25)
    for vertices, faces in (soup(70), (bumpy(3).vertices, bumpy(3).faces)):
        found = []
        for few in (0, 2**30):
            monkeypatch.setattr(rasterizer, "_FEW_PAIRS", few)
            draw = jax.jit(functools.partial(rasterize, size=32))
            found.append(draw(vertices, faces, cameras).face)
        np.testing.assert_array_equal(*found)
        assert (found[0] >= 0).any() and (found[0] < 0).any()


@pytest.mark.parametrize("few", [0, 2**30])
def test_no_pixel_falls_between_neighbors_around_the_camera(draw, monkeypatch, few):
    """Also behind the camera, and in its plane, there are triangles: none is clipped."""
    monkeypatch.setattr(rasterizer, "_FEW_PAIRS", few)
    sphere = trimesh.creation.icosphere(3, 2.0)
    cameras = orbit_camera(jnp.array([0.1, 1.0]), jnp.array([0.2, 1.2]), 0.7, 0.4)
    vertices, faces = jnp.float32(sphere.vertices), jnp.int32(sphere.faces)
    assert draw(vertices, faces, cameras, size=64).hit.all()
    assert not draw(vertices, faces, cameras, size=64, cull=True).hit.any()


def test_a_closed_surface_culled_is_what_it_is(draw, bumpy):
    cameras = orbit_camera(jnp.array([0.3]), 0.4, 1.5, 1.25)
    mesh = bumpy()
    found = [draw(mesh.vertices, mesh.faces, cameras, size=64, cull=c) for c in (False, True)]
    np.testing.assert_array_equal(found[0].face, found[1].face)


def test_interpolation_is_perspective_correct(draw, bumpy):
    """Places, interpolated, lie on the pixels' rays at their depths."""
    cameras = orbit_camera(jnp.array([0.3]), 0.4, 1.2, 0.8)
    mesh = bumpy(2)
    found = draw(mesh.vertices, mesh.faces, cameras, size=48)
    places = interpolate(found, mesh.faces, mesh.vertices)
    rays = cast_rays(jax.tree.map(lambda x: x[0], cameras), 48, 1.0)
    expected = along(rays, found.depth[0][..., None])[..., 0, :]
    hit = found.hit[0]
    np.testing.assert_allclose(places[0][hit], expected[hit], atol=2e-6)
    assert not places[0][~hit].any() and hit.any() and not hit.all()
    np.testing.assert_allclose(found.barycentrics[0][hit].sum(-1), 1.0, atol=1e-5)


def test_depth_moves_with_the_surface(draw, bumpy):
    """The derivative of depth and barycentrics is that of finite differences, in float64."""
    mesh, cameras = bumpy(1), orbit_camera(jnp.array([0.3]), 0.4, 1.5, 1.25)
    face = draw(mesh.vertices, mesh.faces, cameras, size=24).face
    rng = np.random.default_rng(0)
    direction = rng.normal(size=mesh.vertices.shape)
    weights = rng.normal(size=(1, 24, 24, 4))
    with jax.enable_x64(True):
        vertices, cameras = (jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), t)
                             for t in (mesh.vertices, cameras))  # fmt: skip

        @jax.jit
        def value(amount):
            moved = vertices + amount * direction
            out = rasterizer._fragments(moved, mesh.faces, face, cameras)
            values = jnp.concatenate([out.barycentrics, out.depth[..., None]], -1)
            return jnp.sum(values * weights)

        slope = jax.grad(value)(0.0)
        step = 1e-6
        expected = (value(step) - value(-step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_of_equally_near_faces_the_first_is_seen_and_padding_never():
    corners = jnp.array([[0.0, -0.3, -0.3], [0.0, 0.3, -0.3], [0.0, 0.0, 0.4]])
    faces = jnp.array([[1, 1, 1], [0, 1, 2], [0, 1, 2], [0, 0, 2]])
    cameras = orbit_camera(jnp.array([0.0]), 0.0, 1.5, 1.25)
    for few in (0, 2**30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rasterizer, "_FEW_PAIRS", few)
            draw = jax.jit(functools.partial(rasterize, size=16))
            face = draw(corners, faces, cameras).face
        assert set(np.unique(face)) == {NOTHING, 1}
    nothing = draw(corners, jnp.zeros((4, 3), jnp.int32), cameras)
    assert not nothing.hit.any() and not nothing.depth.any()


def test_a_face_of_hardly_any_area_poisons_no_gradient():
    """The first face stands in for that of pixels which show none."""
    corners = [[0.0, 0.0, 0.0], [1e-5, 1e-5, 0.0], [0.0, 1e-5, 1e-5]]
    corners += [[0.0, -0.3, -0.3], [0.0, 0.3, -0.3], [0.0, 0.0, 0.4]]
    faces = jnp.array([[0, 1, 2], [3, 4, 5]])
    cameras = orbit_camera(jnp.array([0.4]), 0.0, 1.5, 1.25)

    @jax.jit
    @jax.grad
    def slope(vertices):
        fragments = rasterize(vertices, faces, cameras, 16)
        return jnp.sum(fragments.barycentrics[..., 0] ** 2) + jnp.sum(fragments.depth)

    found = slope(jnp.array(corners))
    assert jnp.isfinite(found).all() and found[3:].any()


@pytest.mark.parametrize("size", [16, 64])
def test_scenes_that_are_mapped_over_are_what_each_is_alone(bumpy, size):
    mesh, cameras = bumpy(2), orbit_camera(jnp.array([0.3, 2.0]), 0.4, 1.5, 1.25)
    scenes = jnp.stack([mesh.vertices, 0.4 * mesh.vertices, mesh.vertices + 5.0])
    draw = functools.partial(rasterize, faces=mesh.faces, cameras=cameras, size=size)

    def depth(vertices):
        found = draw(vertices)
        return jnp.sum(found.depth**2), found.face

    slopes = jax.value_and_grad(depth, has_aux=True)
    (values, faces), gradients = jax.jit(jax.vmap(slopes))(scenes)
    for i, scene in enumerate(scenes):
        (value, face), gradient = jax.jit(slopes)(scene)
        np.testing.assert_array_equal(faces[i], face)
        np.testing.assert_allclose(values[i], value, rtol=1e-5)
        np.testing.assert_allclose(gradients[i], gradient, atol=1e-4)
    assert jnp.abs(gradients[0]).sum() > 0 and not gradients[2].any()


def test_every_slot_gets_its_nearest_owner_however_long_the_list():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 200, 1000)
    counts[::7] = 0
    slots, depths = rng.integers(0, 50, (1000, 200)), rng.integers(0, 1000, (1000, 200)) / 10
    depths[depths > 90] = np.inf
    found = nearest_owner(
        jnp.asarray(counts),
        lambda owner, number: (jnp.asarray(slots)[owner, number],
                               jnp.float32(depths)[owner, number]),
        60,
    )  # fmt: skip
    expected = np.full(60, -1)
    for slot in range(50):
        reach = (slots == slot) & (np.arange(200) < counts[:, None])
        least = np.where(reach, depths, np.inf).min()
        expected[slot] = np.flatnonzero((reach & (depths == least)).any(1))[0]
    np.testing.assert_array_equal(found, expected)
