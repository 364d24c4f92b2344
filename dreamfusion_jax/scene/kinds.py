"""The scenes that ship, of a field in a volume and of a surface, and what makes one of another."""

from dreamfusion_jax.scene.convert import Fit
from dreamfusion_jax.scene.mesh.from_density import ToSurface
from dreamfusion_jax.scene.mesh.regularizers import (
    EdgeLength,
    Eikonal,
    Laplacian,
    NormalConsistency,
)
from dreamfusion_jax.scene.mesh.scene import MeshScene
from dreamfusion_jax.scene.mesh.sphere import SphereScene
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.scene.regularizers import Entropy, Opacity, Orientation, Transmittance

__all__ = [
    "EdgeLength",
    "Eikonal",
    "Entropy",
    "Fit",
    "Laplacian",
    "MeshScene",
    "NerfScene",
    "NormalConsistency",
    "Opacity",
    "Orientation",
    "SphereScene",
    "ToSurface",
    "Transmittance",
]
