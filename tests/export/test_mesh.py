import numpy as np
import pytest
import trimesh

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export import level_set
from dreamfusion_jax.export.mesh import _closed, extract_mesh, simplify

CENTER = np.array([0.1, 0.0, 0.05])


@pytest.fixture(scope="module")
def mesh(ball, params):
    return extract_mesh(ball, params, 64)


def test_ball_has_its_radius_and_place(mesh):
    distance = np.linalg.norm(mesh.vertices - CENTER, axis=1)
    # Half of the light is lost 0.007 below the nominal surface.
    np.testing.assert_allclose(distance, 0.294, atol=0.006)
    assert mesh.is_watertight and mesh.body_count == 1
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.294**3, rel=0.04)


def test_normals_point_outwards(mesh):
    outward = (mesh.vertices - CENTER) / np.linalg.norm(mesh.vertices - CENTER, axis=1)[:, None]
    assert np.sum(outward * mesh.vertex_normals, axis=1).min() > 0.95


def test_slabs_make_the_same_surface_as_one(ball, params, mesh, monkeypatch):
    """A plane of 64 x 64 points and many more than one plane: the seams leave no trace."""
    for points in (1, 5 * 64**2):
        monkeypatch.setattr(level_set, "_POINTS_PER_SLAB", points)
        slabs = extract_mesh(ball, params, 64)
        assert slabs.is_watertight and len(slabs.faces) == len(mesh.faces)
        both = [m.vertices[np.lexsort(m.vertices.round(5).T)] for m in (slabs, mesh)]
        np.testing.assert_allclose(*both, atol=2e-5)


def test_simplified_meshes_stay_closed_and_keep_their_shape(ball, params, mesh):
    simple = extract_mesh(ball, params, 64, 500)
    assert len(simple.faces) <= 500 < len(mesh.faces)
    assert simple.is_watertight
    assert simple.volume == pytest.approx(mesh.volume, rel=0.02)


def test_sheets_that_touch_in_an_edge_are_parted():
    """Two tetrahedra with an edge in common: closed, but not two faces to an edge."""
    vertices = np.array(
        [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]], float
    )
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    faces = np.concatenate([faces, np.array([0, 1, 4, 5])[faces]])
    assert not trimesh.Trimesh(vertices, faces, process=False).is_watertight
    parted = _closed(vertices, faces)
    assert parted.is_watertight and len(parted.vertices) == 7
    parted.merge_vertices()
    assert parted.is_watertight  # by the vertices' places, too
    assert abs(parted.volume) == pytest.approx(2 / 6, abs=0.01)


def test_faces_without_volume_are_left_out(mesh):
    """Two back to back on an edge, and one with two corners in one; vertices stored twice."""
    a, b, c = mesh.faces[0]
    flaps = [[a, b, c + 1], [b, a, c + 1], [a, a, b]]
    faces = np.concatenate([mesh.faces + len(mesh.vertices), flaps])
    vertices = np.concatenate([mesh.vertices, mesh.vertices])
    assert not trimesh.Trimesh(vertices, faces, process=False).is_watertight
    clean = _closed(vertices, faces)
    assert clean.is_watertight and len(clean.faces) == len(mesh.faces)
    assert clean.volume == pytest.approx(mesh.volume)


def test_a_budget_that_would_tear_the_mesh_is_raised(mesh):
    assert simplify(mesh, 1).is_watertight


def test_specks_and_hidden_cavities_are_left_out(make_scene, params):
    with_speck = extract_mesh(make_scene(speck=0.025, hollow=0.2), params, 48)
    assert with_speck.body_count == 1
    assert with_speck.volume == pytest.approx(4 / 3 * np.pi * 0.294**3, rel=0.06)


def test_what_reaches_the_bounding_sphere_is_closed(make_scene, params):
    mesh = extract_mesh(make_scene(center=(0.6, 0.0, 0.0)), params, 32)
    assert mesh.is_watertight
    # The bounding sphere cuts the ball at 0.75.
    assert mesh.bounds[1, 0] == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("log_density", "message"),
    [(-20.0, "no surface"), (-1.0, "no surface"), (float("nan"), "not finite")],
)
def test_scenes_without_a_surface_say_so(make_scene, params, log_density, message):
    with pytest.raises(UserError, match=message):
        extract_mesh(make_scene(log_density=log_density), params, 24)
