import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.mesh.antialiasing import antialias
from dreamfusion_jax.scene.mesh.rasterizer import interpolate, rasterize
from dreamfusion_jax.scene.mesh.topology import surface_mesh

CAMERAS = orbit_camera(jnp.array([0.3, 1.2]), 0.35, 1.5, 1.25)


@functools.partial(jax.jit, static_argnums=2)
def coverage(mesh, vertices, size):
    found = rasterize(vertices, mesh.faces, CAMERAS, size)
    moved = dataclasses.replace(mesh, vertices=vertices)
    return antialias(found.hit[..., None].astype(jnp.float32), found, moved, CAMERAS)[..., 0]


def shapes(bumpy):
    box = trimesh.creation.box((0.6, 0.4, 0.5))
    triangle = np.array([[0.0, -0.3, -0.35], [0.1, 0.33, -0.2], [-0.1, 0.05, 0.4]])
    yield "bumpy", bumpy()
    yield "box", surface_mesh(jnp.float32(box.vertices), box.faces)
    yield "triangle", surface_mesh(jnp.float32(triangle), np.array([[0, 1, 2]]))


@pytest.mark.slow
def test_areas_are_exact_and_pixels_near_to_their_covered_share(bumpy):
    for _, mesh in shapes(bumpy):
        small, large = coverage(mesh, mesh.vertices, 64), coverage(mesh, mesh.vertices, 1024)
        share = large.reshape(2, 64, 16, 64, 16).mean((2, 4))
        raw = rasterize(mesh.vertices, mesh.faces, CAMERAS, 64).hit
        np.testing.assert_allclose(small.mean((1, 2)), share.mean((1, 2)), atol=5e-4)
        assert np.abs(small - share).mean() < 0.3 * np.abs(raw - share).mean()
        assert small.min() >= 0 and small.max() <= 1


@pytest.mark.slow
def test_vertices_get_the_gradients_of_finite_differences(bumpy):
    """Of sums over the picture with smooth weights, along random motions, at 8 times the size."""
    rng = np.random.default_rng(0)
    place = np.linspace(-1, 1, 1024)
    weights = jnp.asarray(1.5 + np.sin(2 * place)[:, None] * np.cos(1.5 * place), jnp.float32)

    @functools.partial(jax.jit, static_argnums=3)
    def value(mesh, motion, amount, size):
        small = weights.reshape(size, 1024 // size, size, -1).mean((1, 3))
        return jnp.mean(coverage(mesh, mesh.vertices + amount * motion, size) * small)

    slope = jax.jit(jax.grad(value, 2), static_argnums=3)
    for name, mesh in shapes(bumpy):
        slopes, expected = [], []
        for _ in range(3):
            matrix, shift = 0.5 * rng.normal(size=(3, 3)), 0.2 * rng.normal(size=3)
            motion = jnp.asarray(mesh.vertices @ matrix + shift, jnp.float32)
            slopes.append(slope(mesh, motion, 0.0, 128))
            ends = [value(mesh, motion, amount, 1024) for amount in (-0.01, 0.01)]
            expected.append((ends[1] - ends[0]) / 0.02)
        error = np.abs(np.subtract(slopes, expected)).sum() / np.abs(expected).sum()
        # Of so small a triangle the three corners are a larger part.
        assert error < (0.04 if name == "triangle" else 0.02), (name, slopes, expected)


def test_an_outline_in_front_of_a_surface_blends_with_it_and_one_behind_does_not():
    """A small square before, or behind, a large one: only what is seen is blended."""
    square = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], float)
    cameras = orbit_camera(jnp.array([0.0]), 0.0, 2.0, 1.25)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    colors = jnp.array([[1.0, 0, 0]] * 4 + [[0, 0, 1.0]] * 4)

    def draw(offset):
        places = np.concatenate([0.31 * square, 1.5 * square - [offset, 0, 0]])
        return blended(surface_mesh(jnp.float32(places), faces))

    @jax.jit
    def blended(mesh):
        found = rasterize(mesh.vertices, mesh.faces, cameras, 32)
        image = interpolate(found, mesh.faces, colors)
        return image, antialias(image, found, mesh, cameras)

    raw, smooth = draw(0.5)
    mixed = (smooth[..., 0] > 0.05) & (smooth[..., 2] > 0.05)
    assert mixed.sum() >= 40
    np.testing.assert_allclose(smooth.sum(-1), 1.0, atol=1e-5)
    area = (0.31 * 2 * 1.25 / 2.0) ** 2
    np.testing.assert_allclose(smooth[..., 0].mean(), area, rtol=2e-3)
    assert abs(raw[..., 0].mean() / area - 1) > 0.02
    hidden, same = draw(-0.5)
    np.testing.assert_array_equal(hidden, same)


def test_what_has_no_outline_in_view_stays_as_it_is(bumpy):
    """Inside a closed surface, partly behind the camera, there is none; and padding is none."""
    sphere = trimesh.creation.icosphere(3, 2.0)
    mesh = surface_mesh(jnp.float32(sphere.vertices), sphere.faces)
    image = jax.random.uniform(jax.random.key(0), (2, 32, 32, 2))

    @jax.jit
    def blended(mesh):
        return antialias(image, rasterize(mesh.vertices, mesh.faces, CAMERAS, 32), mesh, CAMERAS)

    np.testing.assert_array_equal(blended(mesh), image)
    padded = dataclasses.replace(
        mesh, edges=mesh.edges * 0, edge_faces=jnp.full_like(mesh.edge_faces, -1)
    )
    np.testing.assert_array_equal(blended(padded), image)


def test_scenes_that_are_mapped_over_are_what_each_is_alone(bumpy):
    mesh = bumpy(2)
    scenes = jnp.stack([mesh.vertices, 0.4 * mesh.vertices])

    def area(vertices):
        return jnp.mean(coverage(mesh, vertices, 32))

    gradient = jax.jit(jax.value_and_grad(area))
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(area)))(scenes)
    for i in range(2):
        value, slope = gradient(scenes[i])
        np.testing.assert_allclose(values[i], value, rtol=1e-6)
        np.testing.assert_allclose(slopes[i], slope, atol=1e-6)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_edges_know_their_faces(copies):
    """Also where more than two faces meet: they are taken two by two."""
    faces = np.array([[0, 1, 2], [2, 1, 3]] + [[0, 1, 4], [1, 0, 5]][: copies - 1])
    mesh = surface_mesh(jnp.zeros((6, 3)), faces)
    pairs = {}
    for edge, own in zip(np.asarray(mesh.edges), np.asarray(mesh.edge_faces), strict=True):
        assert all(set(edge) <= set(faces[face]) for face in own if face >= 0)
        pairs.setdefault(tuple(edge), []).append(sorted(own))
    assert pairs[1, 2] == [[0, 1]]
    assert pairs[0, 1] == {1: [[-1, 0]], 2: [[0, 2]], 3: [[0, 2], [-1, 3]]}[copies]
    sides = sum((own >= 0).sum() for own in np.asarray(mesh.edge_faces))
    assert sides == 3 * len(faces)
