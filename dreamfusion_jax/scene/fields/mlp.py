"""The paper's field: an MLP on the integrated positional encoding (section 3.1, appendix A.2)."""

import flax.linen as nn
from jaxtyping import Array, Float

from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.base import Step
from dreamfusion_jax.scene.encoding import integrated_encoding
from dreamfusion_jax.scene.fields.base import Field, Number


@register("field", "mlp")
class MlpField(Field):
    """The paper's residual MLP: `blocks` of two layers of `width` on `frequencies` octaves."""

    width: int = 128
    blocks: int = 5
    frequencies: int = 8

    def __post_init__(self):
        super().__post_init__()
        check_within(self, width=(1, 8192), blocks=(0, 256), frequencies=(1, 32))

    @nn.compact
    def __call__(
        self, mean: Float[Array, "*batch 3"], variance: Number, step: Step
    ) -> tuple[Float[Array, "*batch"], Float[Array, "*batch channels"]]:
        """Return log density and albedo in [0, 1] of Gaussians N(mean, variance I)."""
        h = nn.Dense(self.width, name="stem")(integrated_encoding(mean, variance, self.frequencies))
        for i in range(self.blocks):
            residual = nn.Dense(self.width, name=f"block{i}_in")(nn.silu(h))
            residual = nn.Dense(self.width, name=f"block{i}_out")(nn.silu(residual))
            h = nn.LayerNorm(name=f"norm{i}")(h + residual)
        heads = nn.Dense(1 + self.channels, name="heads")(nn.silu(h))
        return self.with_blob(heads[..., 0], mean), nn.sigmoid(heads[..., 1:])
