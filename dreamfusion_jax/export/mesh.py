"""The scene as a triangle mesh."""

import fast_simplification
import numpy as np
import trimesh
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage import measure

from dreamfusion_jax.errors import NoSurface
from dreamfusion_jax.export.surface import surface_level
from dreamfusion_jax.export.views import grid_points, occupied_cells, prepare_views
from dreamfusion_jax.scene.occupancy import negligible_density
from dreamfusion_jax.scene.render import Scene, density_at

# A piece with less than this share of the whole area is a floater.
_FLOATER_SHARE = 0.01


def extract_mesh(
    scene: Scene,
    params: dict,
    resolution: int = 96,
    triangles: int = 0,
    *,
    level: float | None = None,
) -> trimesh.Trimesh:
    """The visible surface of the scene, in the world frame (z up, front +x).

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      resolution: grid points along the longest side of the object's bounding box.
      triangles: how many it may have, see `simplify`; 0 leaves all.
      level: density of the surface; None takes that of `surface_level`.

    Returns:
      A closed mesh with outward vertex normals.

    Raises:
      NoSurface: nothing in the scene is opaque, or the field is not finite.
    """
    occupied = occupied_cells(scene, prepare_views(scene, params).grid)
    if not occupied.any():
        raise NoSurface(_NOTHING)
    density, low, spacing = _sample_density(scene, params, occupied, resolution)
    if level is None:
        level = surface_level(density, spacing)
    if level is None:
        raise NoSurface(_NOTHING)
    if not level < density.max():
        raise NoSurface(
            f"Nothing in the scene is as dense as {level:g}: its highest density is "
            f"{density.max():.3g}."
        )
    mesh = _drop_floaters(_triangulate(density, level, low, spacing))
    return simplify(mesh, triangles) if triangles else mesh


def simplify(mesh: trimesh.Trimesh, triangles: int) -> trimesh.Trimesh:
    """A closed mesh with fewer triangles (quadric edge collapses, Garland and Heckbert 1997).

    Where so few would tear it open, more are left.
    """
    while triangles < len(mesh.faces):
        vertices, faces = fast_simplification.simplify(
            mesh.vertices.astype(np.float32), mesh.faces, target_count=triangles
        )
        simple = trimesh.Trimesh(vertices, faces, process=True)
        if simple.is_watertight and simple.is_winding_consistent:
            return simple
        triangles *= 2
    return mesh


_NOTHING = (
    "The scene has no surface: nothing in it is more than half opaque; train it longer or "
    "lower config.regularisers.opacity before exporting a mesh."
)


def _sample_density(
    scene: Scene, params: dict, occupied: Bool[np.ndarray, "n n n"], resolution: int
) -> tuple[Float[np.ndarray, "x y z"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Density on a grid around the occupied cells, its lowest corner and its spacing."""
    n = occupied.shape[0]
    cell = 2 * scene.radius / n
    index = np.argwhere(occupied)
    low, high = index.min(0) * cell - scene.radius, (index.max(0) + 1) * cell - scene.radius
    step = float((high - low).max()) / (resolution - 1)
    shape = tuple(int(np.ceil(side / step)) + 1 for side in high - low)
    high = low + step * (np.array(shape) - 1)
    points = grid_points(low, high, shape)
    inside = np.clip(((points + scene.radius) / cell).astype(np.int32), 0, n - 1)
    wanted = occupied[inside[:, 0], inside[:, 1], inside[:, 2]]
    density = np.zeros(len(points), np.float32)
    density[wanted] = density_at(scene, params, points[wanted])
    if not np.isfinite(density).all():
        raise NoSurface(
            "The density of the scene is not finite; export an older checkpoint instead, with "
            "--step."
        )
    density[density < negligible_density(scene.radius)] = 0.0
    return density.reshape(shape), low, np.full(3, step)


def _triangulate(
    density: Float[np.ndarray, "x y z"],
    level: float,
    low: Float[np.ndarray, "3"],
    spacing: Float[np.ndarray, "3"],
) -> trimesh.Trimesh:
    # In the logarithm the density is smooth and vertices come to lie where they should.
    # Two decades either way are enough; an empty margin closes what touches the border.
    log_ratio = np.log(np.maximum(density, 1e-20) / level)
    field = np.pad(np.clip(log_ratio, -4.6, 4.6), 1, constant_values=-4.6)
    # Cavities are invisible, and what is in them was never trained.
    field[ndimage.binary_fill_holes(field >= 0) & (field < 0)] = 4.6
    vertices, faces, _, _ = measure.marching_cubes(field, 0.0, spacing=tuple(spacing))
    mesh = trimesh.Trimesh(vertices + low - spacing, faces, process=True)
    if mesh.volume < 0:
        mesh.invert()
    return mesh


def _drop_floaters(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    label = trimesh.graph.connected_component_labels(
        mesh.face_adjacency, node_count=len(mesh.faces)
    )
    area = np.bincount(label, mesh.area_faces)
    keep = area >= _FLOATER_SHARE * area.sum()
    mesh.update_faces(keep[label])
    mesh.remove_unreferenced_vertices()
    return mesh
