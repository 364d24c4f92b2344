"""Blocks of the pixel UNet (DeepFloyd IF): scale-shift residual blocks and their stages.

Images are [batch, height, width, channels]. Submodule names follow diffusers'.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamfusion_jax.diffusion.attention import AddedKVAttention
from dreamfusion_jax.errors import UserError

_ACTIVATIONS = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation function of that name (diffusers' names)."""
    if name not in _ACTIVATIONS:
        raise UserError(
            f"act_fn {name!r} in the UNet's config.json is not one of {[*_ACTIVATIONS]}"
        )
    return _ACTIVATIONS[name]


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Doubles height and width, nearest neighbour."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Halves height and width, mean of 2 x 2."""
    return nn.avg_pool(x, (2, 2), strides=(2, 2))


class TimestepEmbedding(nn.Module):
    """Two-layer map of the sinusoidal time features."""

    width: int
    act: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "batch n"]) -> Float[Array, "batch width"]:
        """[B, n] -> [B, width]."""
        h = nn.Dense(self.width, dtype=self.dtype, name="linear_1")(features)
        return nn.Dense(self.width, dtype=self.dtype, name="linear_2")(activation(self.act)(h))


class ResnetBlock(nn.Module):
    """Residual block whose second norm is scaled and shifted by the time embedding.

    `resample` ("up", "down" or None) is applied after the first norm and to the shortcut.
    """

    channels: int
    groups: int
    eps: float = 1e-5
    act: str = "gelu"
    resample: str | None = None
    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], temb: Float[Array, "batch time"]
    ) -> Float[Array, "batch h2 w2 channels"]:
        """x [B, H, W, C] and time embedding [B, E] -> [B, H', W', channels]."""
        act = activation(self.act)
        change = {"up": upsample, "down": downsample, None: lambda y: y}[self.resample]
        norm = functools.partial(
            nn.GroupNorm, num_groups=self.groups, epsilon=self.eps, dtype=self.dtype
        )
        conv = functools.partial(
            nn.Conv, self.channels, (3, 3), padding=((1, 1), (1, 1)), dtype=self.dtype
        )
        h = conv(name="conv1")(change(act(norm(name="norm1")(x))))
        temb = nn.Dense(2 * self.channels, dtype=self.dtype, name="time_emb_proj")(act(temb))
        scale, shift = jnp.split(temb[:, None, None, :], 2, axis=-1)
        h = act(norm(name="norm2")(h) * (1 + scale) + shift)
        h = conv(kernel_init=nn.initializers.zeros, name="conv2")(h)
        x = change(x)
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1, 1), dtype=self.dtype, name="conv_shortcut")(x)
        return (x + h) / self.scale


class Stage(nn.Module):
    """What the down, middle and up stages share: residual blocks, attention, resampling.

    `attention_head_dim` None means a stage without attention.
    """

    channels: int
    layers: int
    groups: int
    eps: float
    act: str
    attention_head_dim: int | None = None
    cross_norm: str | None = None
    only_cross: bool = False
    resample: bool = True
    scale: float = 1.0
    dtype: Any = jnp.float32

    def resnet(self, name: str, resample: str | None = None) -> ResnetBlock:
        """A residual block of this stage."""
        return ResnetBlock(
            self.channels,
            self.groups,
            self.eps,
            self.act,
            resample,
            self.scale,
            dtype=self.dtype,
            name=name,
        )

    def attend(self, index: int, x: jax.Array, text, mask) -> jax.Array:
        """The attention after residual block `index`, where the stage has one."""
        if self.attention_head_dim is None:
            return x
        attention = AddedKVAttention(
            self.attention_head_dim,
            self.groups,
            self.cross_norm,
            self.only_cross,
            dtype=self.dtype,
            name=f"attentions_{index}",
        )
        return attention(x, text, mask)


class DownStage(Stage):
    """ResnetDownsampleBlock2D, or SimpleCrossAttnDownBlock2D with attention."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch h w c"],
        temb: Float[Array, "batch time"],
        text: Float[Array, "batch tokens states"],
        mask: Bool[Array, "batch tokens"] | None,
    ) -> tuple[Float[Array, "batch h2 w2 channels"], list]:
        """Returns the stage's output and every state kept for the way up."""
        kept = []
        for i in range(self.layers):
            x = self.attend(i, self.resnet(f"resnets_{i}")(x, temb), text, mask)
            kept.append(x)
        if self.resample:
            x = self.resnet("downsamplers_0", "down")(x, temb)
            kept.append(x)
        return x, kept


class MidStage(Stage):
    """UNetMidBlock2DSimpleCrossAttn: residual block, attention, residual block."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch h w channels"],
        temb: Float[Array, "batch time"],
        text: Float[Array, "batch tokens states"],
        mask: Bool[Array, "batch tokens"] | None,
    ) -> Float[Array, "batch h w channels"]:
        """[B, H, W, C] -> the same."""
        x = self.attend(0, self.resnet("resnets_0")(x, temb), text, mask)
        return self.resnet("resnets_1")(x, temb)


class UpStage(Stage):
    """ResnetUpsampleBlock2D, or SimpleCrossAttnUpBlock2D with attention."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch h w c"],
        kept: list,
        temb: Float[Array, "batch time"],
        text: Float[Array, "batch tokens states"],
        mask: Bool[Array, "batch tokens"] | None,
    ) -> Float[Array, "batch h2 w2 channels"]:
        """Joins x with the kept states, the last one first."""
        for i, skip in enumerate(reversed(kept)):
            x = jnp.concatenate([x, skip], axis=-1)
            x = self.attend(i, self.resnet(f"resnets_{i}")(x, temb), text, mask)
        return self.resnet("upsamplers_0", "up")(x, temb) if self.resample else x
