"""Fields: what is at a place. `base` is the contract, the other files are its kinds."""

from dreamfusion_jax.scene.fields.base import Field
from dreamfusion_jax.scene.fields.grid import GridField
from dreamfusion_jax.scene.fields.hash_grid import HashGridField
from dreamfusion_jax.scene.fields.mlp import MlpField

__all__ = ["Field", "GridField", "HashGridField", "MlpField"]
