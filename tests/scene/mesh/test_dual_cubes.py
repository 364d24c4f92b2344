import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from scipy import spatial

from dreamfusion_jax.scene.mesh.dual_cubes import dual_marching_cubes

extract = jax.jit(dual_marching_cubes, static_argnums=2)


def corners_of(cells):
    axis = jnp.linspace(-1, 1, cells + 1)
    return jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), -1)


def used_faces(mesh):
    faces = np.asarray(mesh.faces)
    return faces[(faces != np.roll(faces, 1, axis=1)).all(1)]


def check_closed(mesh):
    """Every side of a face lies against one that goes the other way, as often."""
    faces = used_faces(mesh)
    sides = collections.Counter(map(tuple, faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)))
    assert all(count == sides[b, a] for (a, b), count in sides.items())
    edges, owners = np.asarray(mesh.edges), np.asarray(mesh.edge_faces)
    there = (owners >= 0).all(1)
    assert not (owners[~there] >= 0).any()
    assert 2 * there.sum() == 3 * len(faces)
    every = np.asarray(mesh.faces)
    for edge, own in zip(edges[there], owners[there], strict=True):
        assert own[0] != own[1] and all(set(edge) <= set(every[face]) for face in own)
    # Each face has its three sides among the edges.
    assert set(np.bincount(owners[there].ravel(), minlength=len(every))) <= {0, 3}
    return faces


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_signs_the_surface_is_closed_and_edges_know_their_faces(seed):
    """On noise every one of the 256 kinds of cells occurs."""
    cells = 12
    noise = jax.random.normal(jax.random.key(seed), (cells + 1,) * 3)
    mesh, used = extract(noise, corners_of(cells), 3 * cells**3)
    faces = check_closed(mesh)
    assert len(faces) == 2 * used.quads and used.vertices == len(np.unique(faces))
    assert np.abs(mesh.vertices).max() <= 1
    inside = np.zeros((cells + 1,) * 3, bool)
    inside[1:-1, 1:-1, 1:-1] = noise[1:-1, 1:-1, 1:-1] < 0
    steps = sum(np.diff(inside, axis=axis).sum() for axis in range(3))
    assert used.quads == steps


def test_a_ball_and_a_ring_have_their_volumes_and_holes():
    cells = 32
    corners = corners_of(cells)
    ball = jnp.linalg.norm(corners, axis=-1) - 0.7
    across = jnp.linalg.norm(corners[..., :2], axis=-1) - 0.6
    ring = jnp.hypot(across, corners[..., 2]) - 0.2
    for distance, volume, euler in (
        (ball, 4 / 3 * np.pi * 0.7**3, 2),
        (ring, 2 * np.pi**2 * 0.6 * 0.2**2, 0),
    ):
        mesh, _ = extract(distance, corners, 6 * cells**2)
        found = trimesh.Trimesh(mesh.vertices, check_closed(mesh), process=False)
        found.remove_unreferenced_vertices()
        assert found.is_watertight and found.euler_number == euler
        np.testing.assert_allclose(found.volume, volume, rtol=0.04)  # positive: it faces outwards


def test_a_surface_that_would_leave_the_grid_is_closed_at_its_border():
    cells = 8
    mesh, used = extract(jnp.full((cells + 1,) * 3, -1.0), corners_of(cells), 6 * cells**2)
    found = trimesh.Trimesh(mesh.vertices, check_closed(mesh), process=False)
    assert used.quads == 6 * (cells - 1) ** 2 and 7 < found.volume < 8


def test_nothing_inside_makes_nothing():
    mesh, used = extract(jnp.ones((9,) * 3), corners_of(8), 100)
    assert used.quads == used.vertices == 0 and not len(used_faces(mesh))
    assert (np.asarray(mesh.edge_faces) < 0).all() and np.isfinite(mesh.vertices).all()


def test_where_there_is_no_room_the_rest_is_whole():
    """What is left out is said, and what is kept is what it is with room for all."""
    cells = 12
    noise = jax.random.normal(jax.random.key(0), (cells + 1,) * 3)
    whole, used = extract(noise, corners_of(cells), 3 * cells**3)
    some, same = extract(noise, corners_of(cells), 500)
    assert same.quads == used.quads > 500 and same.vertices == used.vertices > 500
    triangles = np.asarray(whole.vertices)[used_faces(whole)].reshape(-1, 9)
    kept = used_faces(some)
    assert 0 < len(kept) <= 1000 and kept.max() < 500
    left = np.asarray(some.vertices)[kept].reshape(-1, 9)
    assert spatial.KDTree(triangles).query(left)[0].max() < 1e-5


def test_volumes_have_the_gradients_of_finite_differences():
    """With respect to distances and to corners, in float64."""
    cells = 8
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        corners = jnp.asarray(np.asarray(corners_of(cells)), jnp.float64)
        corners += 0.03 * rng.normal(size=corners.shape)
        distance = jnp.linalg.norm(corners, axis=-1) - 0.6 + 0.1 * jnp.sin(7 * corners[..., 0])
        pushed, moved = rng.normal(size=distance.shape), rng.normal(size=corners.shape)

        @jax.jit
        def volume(push, move):
            mesh, _ = dual_marching_cubes(distance + push * pushed, corners + move * moved, 400)
            a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
            return jnp.sum(a * jnp.cross(b, c)) / 6

        slopes = jax.grad(volume, (0, 1))(0.0, 0.0)
        step = 1e-6
        expected = [
            (volume(step * a, step * b) - volume(-step * a, -step * b)) / (2 * step)
            for a, b in ((1, 0), (0, 1))
        ]
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)


def test_scenes_can_be_mapped_over():
    corners = corners_of(8)
    scenes = jnp.stack([jnp.linalg.norm(corners, axis=-1) - r for r in (0.3, 0.6)])
    make = functools.partial(dual_marching_cubes, corners=corners, room=400)
    meshes, used = jax.jit(jax.vmap(make))(scenes)
    for i in range(2):
        mesh, own = jax.jit(make)(scenes[i])
        np.testing.assert_allclose(meshes.vertices[i], mesh.vertices, atol=1e-6)
        np.testing.assert_array_equal(meshes.faces[i], mesh.faces)
        assert own.quads == used.quads[i]
