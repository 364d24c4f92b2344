import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from dreamfusion_jax.scene.mesh.topology import surface_mesh


@pytest.fixture(scope="session")
def bumpy():
    """A closed surface that hides parts of itself: of 5,120 triangles, or 20 * 4^n."""

    def make(subdivisions=4):
        sphere = trimesh.creation.icosphere(subdivisions, 0.5)
        places = np.array(sphere.vertices)
        places *= 1 + 0.25 * np.sin(9 * places[:, :1]) * np.cos(7 * places[:, 1:2])
        return surface_mesh(jnp.asarray(places, jnp.float32), sphere.faces)

    return make
