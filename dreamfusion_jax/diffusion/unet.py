"""The pixel UNet in DeepFloyd IF's architecture, from published size down to the embedded one.

Fields carry the names of diffusers' UNet2DConditionModel config, whose weights fit after the
renaming in `weights.py`. `patch_size` is ours: the embedded model works on patches of pixels.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamfusion_jax.diffusion.attention import TextTimeEmbedding
from dreamfusion_jax.diffusion.unet_blocks import (
    DownStage,
    MidStage,
    TimestepEmbedding,
    UpStage,
    activation,
)
from dreamfusion_jax.errors import UserError

_PLAIN_DOWN, _CROSS_DOWN = "ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"
_PLAIN_UP, _CROSS_UP = "ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"


def timestep_features(
    timesteps: Float[Array, "batch"], width: int, flip_sin_to_cos: bool = True, shift: int = 0
) -> Float[Array, "batch width"]:
    """Sines and cosines of the time step at geometric frequencies 1 ... 1e-4."""
    half = width // 2
    frequencies = jnp.exp(-math.log(10000.0) * jnp.arange(half) / (half - shift))
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    parts = [jnp.cos(angles), jnp.sin(angles)]
    return jnp.concatenate(parts if flip_sin_to_cos else parts[::-1], axis=-1)


def space_to_depth(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b h2 w2 c2"]:
    """[B, H, W, C] -> [B, H / patch, W / patch, patch patch C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // patch, w // patch, patch * patch * c)


def depth_to_space(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b h2 w2 c2"]:
    """The inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * patch, w * patch, c // patch**2)


class UNet(nn.Module):
    """Predicts noise (or v) from a noisy image, a time step and text states.

    `encoder_hid_dim` is the width of the text states handed in (None: they already have
    `cross_attention_dim`). With out_channels = 2 in_channels the second half is a variance.
    """

    in_channels: int = 3
    out_channels: int = 6
    block_out_channels: tuple[int, ...] = (704, 1408, 2112, 2816)
    layers_per_block: int = 3
    down_block_types: tuple[str, ...] = (_PLAIN_DOWN, _CROSS_DOWN, _CROSS_DOWN, _CROSS_DOWN)
    up_block_types: tuple[str, ...] = (_CROSS_UP, _CROSS_UP, _CROSS_UP, _PLAIN_UP)
    attention_head_dim: int = 64
    cross_attention_dim: int = 2816
    encoder_hid_dim: int | None = 4096
    addition_embed_type: str | None = "text"
    addition_embed_type_num_heads: int = 64
    cross_attention_norm: str | None = "group_norm"
    only_cross_attention: bool = False
    mid_block_only_cross_attention: bool | None = None
    act_fn: str = "gelu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    mid_block_scale_factor: float = 1.0
    resnet_out_scale_factor: float = 1.0
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    patch_size: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        timesteps: Float[Array, "batch"],
        text: Float[Array, "batch tokens states"],
        text_mask: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch height width out"]:
        """x [B, H, W, C] in [-1, 1] plus noise; timesteps [B] in the model's own unit."""
        temb, text = self._condition(timesteps, text, text_mask)
        context = (temb, text, text_mask)
        x = space_to_depth(x, self.patch_size).astype(self.dtype)
        x = self._conv(self.block_out_channels[0], "conv_in")(x)
        kept = [x]
        last = len(self.block_out_channels) - 1
        for i, (kind, width) in enumerate(
            zip(self.down_block_types, self.block_out_channels, strict=True)
        ):
            stage = self._stage(DownStage, f"down_blocks_{i}", width, kind, resample=i < last)
            x, states = stage(x, *context)
            kept.extend(states)
        x = self._mid()(x, *context)
        count = self.layers_per_block + 1
        for i, (kind, width) in enumerate(
            zip(self.up_block_types, reversed(self.block_out_channels), strict=True)
        ):
            stage = self._stage(UpStage, f"up_blocks_{i}", width, kind, resample=i < last)
            kept, states = kept[:-count], kept[-count:]
            x = stage(x, states, *context)
        return self._head(x)

    def _conv(self, channels, name, **kwargs):
        padding = ((1, 1), (1, 1))
        return nn.Conv(channels, (3, 3), padding=padding, dtype=self.dtype, name=name, **kwargs)

    def _condition(self, timesteps, text, text_mask):
        """The time embedding, with the pooled text added, and the projected text states."""
        width = self.block_out_channels[0]
        features = timestep_features(timesteps, width, self.flip_sin_to_cos, self.freq_shift)
        temb = TimestepEmbedding(4 * width, self.act_fn, self.dtype, name="time_embedding")(
            features.astype(self.dtype)
        )
        text = text.astype(self.dtype)
        if self.addition_embed_type == "text":
            heads = self.addition_embed_type_num_heads
            pooled = TextTimeEmbedding(4 * width, heads, self.dtype, name="add_embedding")
            temb = temb + pooled(text, text_mask)
        if self.encoder_hid_dim is not None:
            name = "encoder_hid_proj"
            text = nn.Dense(self.cross_attention_dim, dtype=self.dtype, name=name)(text)
        return temb, text

    def _stage(self, cls, name, width, kind, resample):
        crossed = kind in (_CROSS_DOWN, _CROSS_UP)
        return cls(
            channels=width,
            layers=self.layers_per_block,
            groups=self.norm_num_groups,
            eps=self.norm_eps,
            act=self.act_fn,
            attention_head_dim=self.attention_head_dim if crossed else None,
            cross_norm=self.cross_attention_norm,
            only_cross=self.only_cross_attention,
            resample=resample,
            scale=self.resnet_out_scale_factor,
            dtype=self.dtype,
            name=name,
        )

    def _mid(self):
        only_cross = self.mid_block_only_cross_attention
        return MidStage(
            channels=self.block_out_channels[-1],
            layers=1,
            groups=self.norm_num_groups,
            eps=self.norm_eps,
            act=self.act_fn,
            attention_head_dim=self.attention_head_dim,
            cross_norm=self.cross_attention_norm,
            only_cross=self.only_cross_attention if only_cross is None else only_cross,
            scale=self.mid_block_scale_factor,
            dtype=self.dtype,
            name="mid_block",
        )

    def _head(self, x):
        norm = nn.GroupNorm(
            self.norm_num_groups, epsilon=self.norm_eps, dtype=self.dtype, name="conv_norm_out"
        )
        channels = self.out_channels * self.patch_size**2
        conv = self._conv(channels, "conv_out", kernel_init=nn.initializers.zeros)
        x = conv(activation(self.act_fn)(norm(x)))
        return depth_to_space(x, self.patch_size).astype(jnp.float32)


# Settings of diffusers' config that would change the network in ways this one does not know.
_ONLY = {
    "resnet_time_scale_shift": "scale_shift",
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "class_embed_type": None,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "center_input_sample": False,
    "resnet_skip_time_act": False,
    "dual_cross_attention": False,
}


# diffusers' values of keys that a config.json leaves out.
_DEFAULTS = {
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 1280,
    "encoder_hid_dim": None,
    "addition_embed_type": None,
    "cross_attention_norm": None,
    "act_fn": "silu",
}


def unet_from_config(config: dict[str, Any], dtype: Any = jnp.float32) -> UNet:
    """The UNet that a diffusers `config.json` (or the embedded model's) describes.

    Raises UserError where the config asks for a block or a setting that is not built here.
    """
    config = _DEFAULTS | config
    for key, value in _ONLY.items():
        if config.get(key, value) != value:
            raise UserError(
                f"the UNet's config.json has {key}={config[key]!r}, but only {value!r} is supported"
            )
    known = {_PLAIN_DOWN, _CROSS_DOWN, _PLAIN_UP, _CROSS_UP}
    kinds = [*config.get("down_block_types", ()), *config.get("up_block_types", ())]
    for kind in kinds:
        if kind not in known:
            raise UserError(
                f"the UNet's config.json asks for the block {kind!r}; supported are {sorted(known)}"
            )
    fields = {f.name for f in dataclasses.fields(UNet)} - {"parent", "name", "dtype"}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in fields}
    return UNet(**values, dtype=dtype)
