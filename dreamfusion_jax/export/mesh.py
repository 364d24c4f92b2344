"""The scene as a triangle mesh with vertex colours."""

import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage import measure

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.images import to_uint8
from dreamfusion_jax.export.surface import surface_level
from dreamfusion_jax.export.views import grid_points, negligible_density, occupied_cells
from dreamfusion_jax.scene.render import Scene, albedo_at, density_at
from dreamfusion_jax.scene.volume import rendering_weights

# A piece with less than this share of the whole area is a floater.
_FLOATER_SHARE = 0.01
# Where a vertex takes its colour from, in grid cells along the normal (out to in).
_COLOUR_DEPTHS = np.array([1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0])


def extract_mesh(scene: Scene, params: dict, resolution: int = 96) -> trimesh.Trimesh:
    """The visible surface of the scene, in the world frame (z up, front +x).

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      resolution: grid points along the longest side of the object's bounding box.

    Returns:
      A closed mesh with outward vertex normals and vertex colours (sRGB, as rendered).

    Raises:
      UserError: nothing in the scene is opaque, or the field is not finite.
    """
    occupied = occupied_cells(scene, params)
    if not occupied.any():
        raise UserError(_NOTHING)
    density, low, spacing = _sample_density(scene, params, occupied, resolution)
    level = surface_level(density, spacing)
    if level is None:
        raise UserError(_NOTHING)
    mesh = _drop_floaters(_triangulate(density, level, low, spacing))
    colours = _vertex_colours(scene, params, mesh, float(spacing.max()))
    return trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.vertex_normals,
        vertex_colors=np.column_stack([to_uint8(colours), np.full(len(colours), 255, np.uint8)]),
        process=False,
    )


_NOTHING = (
    "The scene has no surface: nothing in it is more than half opaque; train it longer or "
    "lower config.regularisers.opacity before exporting a mesh."
)


def _sample_density(
    scene: Scene, params: dict, occupied: Bool[np.ndarray, "n n n"], resolution: int
) -> tuple[Float[np.ndarray, "x y z"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Density on a grid around the occupied cells, its lowest corner and its spacing."""
    n = occupied.shape[0]
    cell = 2 * scene.radius / (n - 1)
    index = np.argwhere(occupied)
    low, high = index.min(0) * cell - scene.radius, index.max(0) * cell - scene.radius
    step = float((high - low).max()) / (resolution - 1)
    shape = tuple(int(np.ceil(side / step)) + 1 for side in high - low)
    high = low + step * (np.array(shape) - 1)
    points = grid_points(low, high, shape)
    nearest = np.clip(np.rint((points + scene.radius) / cell).astype(np.int32), 0, n - 1)
    wanted = occupied[nearest[:, 0], nearest[:, 1], nearest[:, 2]]
    density = np.zeros(len(points), np.float32)
    density[wanted] = density_at(scene, params, points[wanted])
    if not np.isfinite(density).all():
        raise UserError(
            "The density of the scene is not finite; export an older checkpoint instead."
        )
    density[density < negligible_density(scene)] = 0.0
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


def _vertex_colours(
    scene: Scene, params: dict, mesh: trimesh.Trimesh, step: float
) -> Float[np.ndarray, "vertices 3"]:
    """What a short ray along the inward normal would show: colours weighted as in rendering."""
    depths = _COLOUR_DEPTHS * step
    points = mesh.vertices[:, None] + depths[:, None] * mesh.vertex_normals[:, None]
    shape, points = points.shape[:2], points.reshape(-1, 3).astype(np.float32)
    density = density_at(scene, params, points).reshape(shape)
    albedo = albedo_at(scene, params, points).reshape(*shape, 3)
    lengths = -np.diff(depths, append=depths[-1] - step)
    lengths = jnp.broadcast_to(jnp.asarray(lengths, jnp.float32), shape)
    weights = np.asarray(rendering_weights(jnp.asarray(density), lengths))
    weights = weights + 1e-6  # where there is nothing at all: their mean
    return np.einsum("vs,vsc->vc", weights, albedo) / weights.sum(1, keepdims=True)
