"""Measures of agreement between a result and the true object."""

import numpy as np
import trimesh
from jaxtyping import Bool, Float
from scipy import spatial


def silhouette_iou(
    a: Bool[np.ndarray, "*views height width"], b: Bool[np.ndarray, "*views height width"]
) -> Float[np.ndarray, "*views"]:
    """Return the intersection over union of two masks, per view; 1 where both are empty."""
    union = (a | b).sum((-2, -1))
    return np.where(union > 0, (a & b).sum((-2, -1)) / np.maximum(union, 1), 1.0)


def psnr(
    a: Float[np.ndarray, "*views height width 3"], b: Float[np.ndarray, "*views height width 3"]
) -> Float[np.ndarray, "*views"]:
    """-10 log10 of the mean squared error over all pixels of a view, images in [0, 1], in dB.

    Equal images give 100 dB.
    """
    error = np.mean((a - b) ** 2, axis=(-3, -2, -1))
    return -10 * np.log10(np.maximum(error, 1e-10))


def chamfer_distance(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "m 3"]) -> float:
    """Return mean distances to the nearest point of the other set, averaged over both directions.

    Distances are not squared; in the unit of the points.
    """
    a_to_b = spatial.cKDTree(b).query(a)[0].mean()
    b_to_a = spatial.cKDTree(a).query(b)[0].mean()
    return float(0.5 * (a_to_b + b_to_a))


def rotate_about_z(points: Float[np.ndarray, "n 3"], angle: float) -> Float[np.ndarray, "n 3"]:
    """Turn points counter-clockwise about the vertical axis (radians)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def normalized_surface_points(
    mesh: trimesh.Trimesh, azimuth: float, count: int = 4096
) -> Float[np.ndarray, "count 3"]:
    """Return points spread evenly over a mesh that is turned and then normalized.

    Normalized as the true objects are: the bounding box has its center at the origin and
    a diagonal of 1. The points are the same on every call.

    Args:
      mesh: in the world frame.
      azimuth: turns the mesh about z, radians.
      count: number of points.
    """
    vertices = rotate_about_z(np.asarray(mesh.vertices), azimuth)
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - 0.5 * (low + high)) / np.linalg.norm(high - low)
    turned = trimesh.Trimesh(vertices, mesh.faces, process=False)
    points, _ = trimesh.sample.sample_surface(turned, count, seed=0)
    return np.asarray(points)
