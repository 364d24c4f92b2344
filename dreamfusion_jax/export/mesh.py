"""The scene as a triangle mesh."""

import fast_simplification
import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse import csgraph

from dreamfusion_jax.errors import NoSurface, UserError
from dreamfusion_jax.export.level_set import Lattice
from dreamfusion_jax.export.surface import surface_level
from dreamfusion_jax.export.view_renderer import occupied_cells, prepare_views
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.scene.nerf import NerfScene, Prepared
from dreamfusion_jax.types import SurfaceMesh

# A piece with less than this share of the whole area is a floater.
_FLOATER_SHARE = 0.01
_PARTED = 0.02  # of the way to the middle of its sheet
_LEVEL_RESOLUTION = 192  # more points tell no more of the level


def extract_mesh(
    scene: Scene,
    params: dict,
    resolution: int = 96,
    triangles: int = 0,
    *,
    step: int = FINISHED,
    level: float | None = None,
    progress: bool = False,
) -> trimesh.Trimesh:
    """Return the visible surface of the scene, in the world frame (z up, front +x).

    A scene that is a mesh is taken as it is, without what cannot be seen.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      resolution: grid points along the longest side of the object's bounding box; a mesh has its
        own.
      triangles: how many it may have, see `simplify`; 0 leaves all.
      step: of the run, for what is annealed.
      level: density of the surface; None takes that of `surface_level`.
      progress: whether to show a progress bar.

    Returns:
      A closed mesh with outward vertex normals.

    Raises:
      NoSurface: nothing in the scene is opaque.
      UserError: the scene is not finite, or is neither a field nor a mesh.
    """
    ready = prepare_views(scene, params, step)
    surface = scene.surface(params)
    if surface is not None:
        mesh = _of_surface(surface)
    elif isinstance(scene, NerfScene) and isinstance(ready, Prepared) and ready.grid is not None:
        occupied = occupied_cells(scene, ready.grid)
        mesh = _of_field(scene, params, step, occupied, resolution, level, progress)
    else:
        raise UserError(f"A {type(scene).__name__} has no surface that could be exported.")
    return simplify(mesh, triangles) if triangles else mesh


def _of_surface(surface: SurfaceMesh) -> trimesh.Trimesh:
    """Return the triangles of a surface that can be seen."""
    faces = np.asarray(surface.faces)
    used, index = np.unique(faces[faces[:, 0] != faces[:, 1]], return_inverse=True)
    if not len(used):
        raise NoSurface(_NOTHING)
    vertices = np.asarray(surface.vertices, np.float64)[used]
    return _drop_hidden(vertices, index.reshape(-1, 3))


def _of_field(
    scene: NerfScene,
    params: dict,
    step: int,
    occupied: Bool[np.ndarray, "n n n"],
    resolution: int,
    level: float | None,
    progress: bool,
) -> trimesh.Trimesh:
    """Return the level set of a field's density that can be seen."""
    if not occupied.any():
        raise NoSurface(_NOTHING)
    if level is None:
        points = min(resolution, _LEVEL_RESOLUTION)
        coarse = Lattice.around(scene, params, step, occupied, points)
        level = surface_level(coarse.density(0, coarse.shape[0]), np.full(3, coarse.spacing))
    if level is None:
        raise NoSurface(_NOTHING)
    lattice = Lattice.around(scene, params, step, occupied, resolution)
    return _drop_hidden(*lattice.triangles(level, progress=progress))


def simplify(mesh: trimesh.Trimesh, triangles: int) -> trimesh.Trimesh:
    """Return a closed mesh of fewer triangles (quadric edge collapses, Garland and Heckbert 1997).

    Where so few would tear it open, more are left.
    """
    while triangles < len(mesh.faces):
        vertices, faces = fast_simplification.simplify(
            mesh.vertices.astype(np.float32), mesh.faces, target_count=triangles
        )
        simple = _closed(vertices, faces)
        if simple.is_watertight and simple.is_winding_consistent:
            return simple
        triangles *= 2
    return mesh


def _closed(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> trimesh.Trimesh:
    """Return the mesh with two faces at every edge, where the given one has an even number.

    Vertices at one place are made one; faces with two corners in one go, and two that lie back to
    back; and where two sheets touch in an edge, each has its own copy of one end of it.
    """
    # As files hold them: places that differ less would be one there.
    vertices, index = np.unique(vertices.astype(np.float32), axis=0, return_inverse=True)
    vertices = vertices.astype(np.float64)
    faces = index.ravel()[faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    _, place, count = np.unique(
        np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    faces = faces[count[place.ravel()] == 1]
    mesh = trimesh.Trimesh(*_unpinched(vertices, faces), process=False)
    mesh.remove_unreferenced_vertices()
    return mesh


def _unpinched(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> tuple[Float[np.ndarray, "more 3"], Int[np.ndarray, "faces 3"]]:
    """Return the mesh with every edge at which two sheets touch, four faces, made two.

    Each sheet has its own copy of one end of the edge, a little way towards its middle, so that
    programs that take vertices by their places see two as well. The faces around that end are two
    fans, both from the edge round to the edge again.
    """
    edges, count = np.unique(
        np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0, return_counts=True
    )
    places, faces = list(vertices), faces.copy()
    for end, other in edges[count > 2]:
        around = np.flatnonzero((faces == end).any(1))
        corners = faces[around]
        row, column = np.nonzero((corners != end) & (corners != other))
        _, third = np.unique(corners[row, column], return_inverse=True)
        nodes = len(around) + third.max() + 1
        graph = sparse.coo_matrix((np.ones(len(row)), (row, third + len(around))), (nodes, nodes))
        fan = csgraph.connected_components(graph, directed=False)[1][: len(around)]
        for number in np.unique(fan)[1:]:
            middle = np.mean([places[i] for i in corners[fan == number].ravel()], axis=0)
            corners[(fan == number)[:, None] & (corners == end)] = len(places)
            places.append(places[end] + _PARTED * (middle - places[end]))
        faces[around] = corners
    return np.array(places).reshape(-1, 3), faces


_NOTHING = (
    "The scene has no surface: nothing in it is more than half opaque; check that the prior knows "
    "what the prompt names, train it longer or lower "
    "config.regularizers.opacity before exporting a mesh."
)


def _drop_hidden(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> trimesh.Trimesh:
    """Return the pieces that can be seen: no cavities, whose volume is negative, and no specks."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sparse.coo_matrix(
        (np.ones(len(edges), bool), edges.T), shape=(len(vertices), len(vertices))
    )
    label = csgraph.connected_components(graph, directed=False)[1][faces[:, 0]]
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    area = np.bincount(label, np.linalg.norm(normals, axis=1))
    volume = np.bincount(label, np.einsum("nd,nd->n", normals, a))
    outwards = 1.0 if volume.sum() > 0 else -1.0
    seen = outwards * volume > 0
    keep = (seen & (area >= _FLOATER_SHARE * area[seen].sum()))[label]
    mesh = _closed(vertices, faces[keep])
    if mesh.volume < 0:
        mesh.invert()
    return mesh
