import numpy as np
import pytest

from dreamfusion_jax.export.baking import rasterise, unwrap, with_texture, with_vertex_colours
from dreamfusion_jax.export.mesh import extract_mesh

CENTRE = np.array([0.1, 0.0, 0.05])
RED, BLUE = (204, 26, 26), (26, 51, 204)


@pytest.fixture(scope="module")
def mesh(ball, params):
    return extract_mesh(ball, params, 32, 800)


def check_colours(colours, height):
    for side, colour in ((height > 0.06, RED), (height < -0.06, BLUE)):
        np.testing.assert_allclose(colours[side], [colour] * side.sum(), atol=1)


def test_vertices_have_the_colours_of_the_field(ball, params, mesh):
    coloured = with_vertex_colours(ball, params, mesh)
    check_colours(coloured.visual.vertex_colors[:, :3], coloured.vertices[:, 2] - CENTRE[2])


def test_texture_has_the_colours_of_the_field_at_any_point_of_a_triangle(ball, params, mesh):
    textured = with_texture(ball, params, mesh, 128)
    pixels = np.asarray(textured.visual.material.baseColorTexture)
    assert pixels.shape == (128, 128, 3)
    weights = np.random.default_rng(0).dirichlet((1, 1, 1), len(textured.faces))
    uv = np.einsum("fk,fkd->fd", weights, textured.visual.uv[textured.faces])
    height = np.einsum("fk,fkd->fd", weights, textured.triangles)[:, 2] - CENTRE[2]
    row, column = ((1 - uv[:, 1]) * 128).astype(int), (uv[:, 0] * 128).astype(int)
    check_colours(pixels[row, column], height)
    # Between the charts the nearest colour goes on: nothing of the empty texture shows.
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
    face, *_ = rasterise(corners * 512, 512)
    # As many cells are covered as there is area: nothing is covered twice.
    assert len(face) == pytest.approx(area[:, 2].sum() / 2 * 512**2, rel=0.02)


def test_rasterise_covers_a_square_once():
    square = np.array([[[1, 1], [5, 1], [1, 5]], [[5, 1], [5, 5], [1, 5]]], float)
    face, weights, x, y = rasterise(square, 8)
    assert sorted(zip(x.tolist(), y.tolist(), strict=True)) == [
        (i, j) for i in range(1, 5) for j in range(1, 5)
    ]
    corners = np.einsum("nk,nkd->nd", weights, square[face])
    np.testing.assert_allclose(corners, np.stack([x, y], 1) + 0.5)


def test_rasterise_takes_either_orientation_and_leaves_out_what_is_flat():
    flipped = np.array([[[1, 1], [1, 5], [5, 1]], [[0, 0], [4, 4], [2, 2]]], float)
    face, *_ = rasterise(flipped, 8)
    assert set(face) == {0}
