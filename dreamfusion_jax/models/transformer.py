"""Transformer blocks on images, as Stable Diffusion's UNets have them.

Submodule names follow diffusers' Transformer2DModel.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamfusion_jax.models.attention import attend, mask_bias, split_heads


class CrossAttention(nn.Module):
    """Attention of tokens to other tokens; projections without bias, but for the output's."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch queries width"],
        context: Float[Array, "batch keys states"],
        mask: Bool[Array, "batch keys"] | None = None,
    ) -> Float[Array, "batch queries width"]:
        """Tokens x [B, N, D] gather from the context [B, K, E], where its mask is True."""
        width = x.shape[-1]

        def project(name, inputs):
            dense = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)
            return split_heads(dense(inputs), self.heads)

        query, key, value = project("to_q", x), project("to_k", context), project("to_v", context)
        out = attend(query, key, value, None if mask is None else mask_bias(mask))
        return nn.Dense(width, dtype=self.dtype, name="to_out_0")(out.reshape(x.shape))


class GEGLU(nn.Module):
    """Projects to twice the width; one half, through GELU, gates the other."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch n channels"]) -> Float[Array, "batch n width"]:
        """[B, N, C] -> [B, N, width]."""
        h = nn.Dense(2 * self.width, dtype=self.dtype, name="proj")(x)
        h, gate = jnp.split(h, 2, axis=-1)
        return h * jax.nn.gelu(gate, approximate=False)


class FeedForward(nn.Module):
    """Gated feed-forward of four times the width."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch n width"]) -> Float[Array, "batch n width"]:
        """[B, N, D] -> the same."""
        width = x.shape[-1]
        h = GEGLU(4 * width, self.dtype, name="net_0")(x)
        return nn.Dense(width, dtype=self.dtype, name="net_2")(h)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward, each normed and residual.

    With `only_cross` the first attention reads the text too.
    """

    heads: int
    only_cross: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch n width"],
        text: Float[Array, "batch tokens states"],
        mask: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch n width"]:
        """[B, N, D] -> the same."""

        def norm(name, inputs):
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)(inputs)

        h = norm("norm1", x)
        first = (text, mask) if self.only_cross else (h, None)
        x = x + CrossAttention(self.heads, self.dtype, name="attn1")(h, *first)
        x = x + CrossAttention(self.heads, self.dtype, name="attn2")(norm("norm2", x), text, mask)
        return x + FeedForward(self.dtype, name="ff")(norm("norm3", x))


class ImageTransformer(nn.Module):
    """Residual transformer over the positions of an image (diffusers' Transformer2DModel).

    `linear_projection` says how its weights are stored: matrices, or convolutions of one pixel.
    """

    heads: int
    depth: int = 1
    norm_groups: int = 32
    linear_projection: bool = False
    only_cross: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        text: Float[Array, "batch tokens states"],
        mask: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """[B, H, W, C] -> the same."""
        channels = x.shape[-1]

        def project(name, inputs):
            if self.linear_projection:
                return nn.Dense(channels, dtype=self.dtype, name=name)(inputs)
            return nn.Conv(channels, (1, 1), dtype=self.dtype, name=name)(inputs)

        h = nn.GroupNorm(self.norm_groups, epsilon=1e-6, dtype=self.dtype, name="norm")(x)
        h = project("proj_in", h).reshape(x.shape[0], -1, channels)
        for i in range(self.depth):
            block = TransformerBlock(
                self.heads, self.only_cross, self.dtype, name=f"transformer_blocks_{i}"
            )
            h = block(h, text, mask)
        return x + project("proj_out", h.reshape(x.shape))
