import numpy as np
import pytest
import trimesh

from dreamfusion_jax.evaluation import geometry


def test_iou_of_overlapping_squares_and_of_nothing():
    a, b = np.zeros((2, 3, 10, 10), bool)
    a[0, :4, :4], b[0, 2:6, :4] = True, True  # 16 and 16, 8 common
    a[1, 0, 0], b[1, 9, 9] = True, True
    np.testing.assert_allclose(geometry.silhouette_iou(a, b), [8 / 24, 0.0, 1.0])


def test_psnr_of_a_known_error():
    a = np.full((2, 4, 4, 3), 0.5)
    b = np.stack([a[0] + 0.1, a[1]])
    np.testing.assert_allclose(geometry.psnr(a, b), [20.0, 100.0])


def test_chamfer_of_shifted_points_is_the_shift():
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), -1).reshape(-1, 3)
    assert geometry.chamfer_distance(grid, grid + [0.0, 0.0, 0.2]) == pytest.approx(0.2)
    assert geometry.chamfer_distance(grid, grid) == 0.0


def test_chamfer_is_symmetric_and_sees_what_is_missing():
    some = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    few = some[:1]
    # 0 from the few to the many; (0 + 1 + 3) / 3 back.
    assert geometry.chamfer_distance(some, few) == pytest.approx(2 / 3)
    assert geometry.chamfer_distance(few, some) == pytest.approx(2 / 3)


def test_rotation_is_counter_clockwise_from_above():
    turned = geometry.rotate_about_z(np.array([[1.0, 0.0, 2.0]]), np.pi / 2)
    np.testing.assert_allclose(turned, [[0.0, 1.0, 2.0]], atol=1e-12)


def test_normalized_points_lie_on_the_unit_diagonal_object():
    box = trimesh.creation.box(extents=(3.0, 4.0, 12.0))  # diagonal 13
    box.apply_translation([5.0, -2.0, 1.0])
    points = geometry.normalized_surface_points(box, np.pi / 2, 4000)
    half = np.array([4.0, 3.0, 12.0]) / 26  # turned: x and y change places
    assert (np.abs(points) <= half + 1e-9).all()
    # Every point lies on one of the six faces, and every face has its share.
    on_face = np.isclose(np.abs(points), half, atol=1e-9)
    assert on_face.any(axis=1).all()
    share = on_face.sum(0) / len(points)
    np.testing.assert_allclose(share, np.array([36, 48, 12]) / 96, atol=0.03)
    np.testing.assert_array_equal(points, geometry.normalized_surface_points(box, np.pi / 2, 4000))
