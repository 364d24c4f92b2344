import numpy as np
import pytest

from dreamfusion_jax.export import baking
from dreamfusion_jax.export.baking import (
    barycentric,
    covering,
    fill,
    unwrap,
    with_texture,
    with_vertex_colors,
)
from dreamfusion_jax.export.mesh import extract_mesh

CENTER = np.array([0.1, 0.0, 0.05])
RED, BLUE = (204, 26, 26), (26, 51, 204)


@pytest.fixture(scope="module")
def mesh(ball, params):
    return extract_mesh(ball, params, 32, 800)


def check_colors(colors, height):
    for side, color in ((height > 0.06, RED), (height < -0.06, BLUE)):
        np.testing.assert_allclose(colors[side], [color] * side.sum(), atol=1)


def test_vertices_have_the_colors_of_the_field(ball, params, mesh):
    colored = with_vertex_colors(ball, params, mesh)
    check_colors(colored.visual.vertex_colors[:, :3], colored.vertices[:, 2] - CENTER[2])


def test_texture_has_the_colors_of_the_field_at_any_point_of_a_triangle(ball, params, mesh):
    textured = with_texture(ball, params, mesh, 128)
    pixels = np.asarray(textured.visual.material.baseColorTexture)
    assert pixels.shape == (128, 128, 3)
    weights = np.random.default_rng(0).dirichlet((1, 1, 1), len(textured.faces))
    uv = np.einsum("fk,fkd->fd", weights, textured.visual.uv[textured.faces])
    height = np.einsum("fk,fkd->fd", weights, textured.triangles)[:, 2] - CENTER[2]
    row, column = ((1 - uv[:, 1]) * 128).astype(int), (uv[:, 0] * 128).astype(int)
    check_colors(pixels[row, column], height)
    # Between the charts the colors go on: nothing of the empty texture shows.
    assert (pixels.max(-1) > 100).all()


def test_seams_are_closed_when_copies_of_a_vertex_are_one(ball, params, mesh):
    textured = with_texture(ball, params, mesh, 64)
    assert len(textured.faces) == len(mesh.faces) and len(textured.vertices) > len(mesh.vertices)
    assert mesh.is_watertight and not textured.is_watertight
    textured.merge_vertices(merge_tex=True, merge_norm=True)
    assert textured.is_watertight


def test_charts_do_not_overlap(mesh):
    vertex, faces, uv = unwrap(mesh, 128)
    assert uv.min() >= 0 and uv.max() <= 1
    np.testing.assert_array_equal(np.sort(np.unique(vertex)), np.arange(len(mesh.vertices)))
    corners = uv[faces]
    area = np.abs(
        np.cross(*(np.pad(corners[:, i] - corners[:, 0], [(0, 0), (0, 1)]) for i in (1, 2)))
    )
    covered = (covering(corners * 512, 512) >= 0).sum()
    # As many cells are covered as there is area: nothing is covered twice.
    assert covered == pytest.approx(area[:, 2].sum() / 2 * 512**2, rel=0.02)


def test_a_square_is_covered_and_nothing_else():
    square = np.array([[[1, 1], [5, 1], [1, 6]], [[5, 1], [5, 6], [1, 6]]], float)
    owner = covering(square, 8)
    y, x = np.nonzero(owner >= 0)
    assert sorted(zip(x.tolist(), y.tolist(), strict=True)) == [
        (i, j) for i in range(1, 5) for j in range(1, 6)
    ]
    weights = barycentric(square[owner[y, x]], x, y)
    corners = np.einsum("nk,nkd->nd", weights, square[owner[y, x]])
    np.testing.assert_allclose(corners, np.stack([x, y], 1) + 0.5)


def test_triangles_of_either_orientation_cover_and_flat_ones_do_not():
    flipped = np.array([[[1, 1], [1, 5], [5, 1]], [[0, 0], [4, 4], [2, 2]]], float)
    assert set(covering(flipped, 8).ravel().tolist()) == {-1, 0}


def test_a_texture_made_in_parts_is_the_same(ball, params, mesh, monkeypatch):
    whole = with_texture(ball, params, mesh, 128).visual.material.baseColorTexture
    monkeypatch.setattr(baking, "_CELLS_PER_BATCH", 1000)
    parts = with_texture(ball, params, mesh, 128).visual.material.baseColorTexture
    np.testing.assert_allclose(*(np.asarray(x, int) for x in (parts, whole)), atol=1)


def test_what_is_unknown_is_filled_from_near_by():
    image = np.zeros((5, 7, 3), np.uint8)
    known = np.zeros((5, 7), bool)
    image[0, 0], known[0, 0] = RED, True
    image[4, 6], known[4, 6] = BLUE, True
    fill(image, known)
    np.testing.assert_array_equal(image[:2, :2], np.broadcast_to(RED, (2, 2, 3)))
    np.testing.assert_array_equal(image[4, 6], BLUE)
    np.testing.assert_array_equal(image[3, 1], np.broadcast_to(RED, 3))
    assert (image.max(-1) > 100).all()
