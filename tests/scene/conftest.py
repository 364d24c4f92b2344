import jax
import pytest

from dreamfusion_jax.scene.fields import MlpField
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler


@pytest.fixture(scope="session")
def scene() -> NerfScene:
    return NerfScene(
        field=MlpField(width=16, blocks=2, frequencies=3, density_offset=-1.0),
        radius=1.0,
        sampler=HierarchicalSampler(16, 8),
    )


@pytest.fixture(scope="session")
def params(scene) -> dict:
    return jax.jit(lambda key: scene.init(key))(jax.random.key(0))


@pytest.fixture
def points() -> jax.Array:
    return jax.random.uniform(jax.random.key(1), (50, 3), minval=-0.5, maxval=0.5)


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(7)
