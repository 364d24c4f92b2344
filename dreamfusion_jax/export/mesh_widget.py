"""A mesh that is turned with the mouse, as an HTML fragment with the data inside."""

import math
from typing import Any

import trimesh
from trimesh.viewer.notebook import scene_to_html

from dreamfusion_jax.export.mesh_files import upright

_HEIGHT = 420  # pixels
_RENDERER = "renderer=new THREE.WebGLRenderer({antialias:true});"
_ENCODING = "renderer.outputEncoding=THREE.sRGBEncoding;"
_FIELD_OF_VIEW = 40.0  # degrees


def viewer_html(mesh: trimesh.Trimesh) -> str:
    """Return an iframe with trimesh's three.js viewer of a mesh in the world frame.

    Nothing is loaded from elsewhere. Drag to turn, wheel or pinch to come nearer.
    """
    objects: dict[str, Any] = {"object": upright(mesh)}
    scene = trimesh.Scene(objects)
    # From the front, a little to the right and above, the bounding sphere in sight.
    scene.set_camera(
        angles=(-math.radians(15), math.radians(30), 0),
        distance=0.5 * scene.scale / math.sin(math.radians(_FIELD_OF_VIEW / 2)),
        center=scene.bounds.mean(0),
        fov=(_FIELD_OF_VIEW, _FIELD_OF_VIEW),
    )
    # Without it three.js shows linear colors as they are: too dark.
    document = scene_to_html(scene).replace(_RENDERER, _RENDERER + _ENCODING, 1)
    document = document.replace("&", "&amp;").replace('"', "&quot;")
    return (
        f'<iframe title="the object in three dimensions" srcdoc="{document}" '
        f'style="width: 100%; height: {_HEIGHT}px; border: 0; border-radius: 6px"></iframe>'
    )
