"""What is seen where the object is not: an environment map or a random flat colour."""

import distrax
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dreamfusion_jax.scene.encoding import integrated_encoding


class EnvironmentMap(nn.Module):
    """An MLP from ray direction to colour (paper section 3.2).

    Few frequencies and units: a background that cannot paint the object by itself.
    """

    width: int = 64
    layers: int = 2
    frequencies: int = 4
    channels: int = 3

    @nn.compact
    def __call__(self, directions: Float[Array, "*rays 3"]) -> Float[Array, "*rays channels"]:
        """Colours in [0, 1] seen in unit directions."""
        h = integrated_encoding(directions, 0.0, self.frequencies)
        for i in range(self.layers):
            h = nn.silu(nn.Dense(self.width, name=f"layer{i}")(h))
        return nn.sigmoid(nn.Dense(self.channels, name="colour")(h))


def random_colour(
    key: PRNGKeyArray, mean: float, std: float, channels: int = 3
) -> Float[Array, "channels"]:
    """A flat background colour ~ N(mean, std^2) in each channel, clipped to [0, 1]."""
    colour = distrax.Normal(mean, std).sample(seed=key, sample_shape=(channels,))
    return jnp.clip(colour, 0.0, 1.0)
