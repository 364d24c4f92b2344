"""The conditional UNet of DeepFloyd IF and Stable Diffusion, and of the embedded prior.

Fields carry the names of diffusers' UNet2DConditionModel config, whose weights fit after the
renaming in `pretrained/convert.py`. `patch_size` is ours: the embedded model works on patches of
pixels.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import (
    FLAG,
    NULL,
    WORD,
    check_divides,
    check_fields,
    each,
    either,
    number,
    one_of,
    shown,
    whole,
)
from dreamfusion_jax.models.attention import (
    CROSS_GROUPS,
    AddedKVAttention,
    TextTimeEmbedding,
)
from dreamfusion_jax.models.transformer import ImageTransformer
from dreamfusion_jax.models.unet_blocks import (
    ACTIVATIONS,
    Downsample,
    DownStage,
    MidStage,
    ResnetBlock,
    TimestepEmbedding,
    Upsample,
    UpStage,
    activation,
    conv3x3,
)


class BlockSpec(NamedTuple):
    """What the name of a block stands for."""

    attention: str | None  # "added_kv" (IF), "transformer" (Stable Diffusion) or none
    resample: str | None  # by a residual block (IF) or by a convolution (Stable Diffusion)


DOWN_KINDS = {
    "ResnetDownsampleBlock2D": BlockSpec(None, "resnet"),
    "SimpleCrossAttnDownBlock2D": BlockSpec("added_kv", "resnet"),
    "DownBlock2D": BlockSpec(None, "conv"),
    "CrossAttnDownBlock2D": BlockSpec("transformer", "conv"),
}
MID_KINDS = {
    "UNetMidBlock2DSimpleCrossAttn": BlockSpec("added_kv", None),
    "UNetMidBlock2DCrossAttn": BlockSpec("transformer", None),
}
UP_KINDS = {
    "ResnetUpsampleBlock2D": BlockSpec(None, "resnet"),
    "SimpleCrossAttnUpBlock2D": BlockSpec("added_kv", "resnet"),
    "UpBlock2D": BlockSpec(None, "conv"),
    "CrossAttnUpBlock2D": BlockSpec("transformer", "conv"),
}


def timestep_features(
    timesteps: Float[Array, "batch"], width: int, flip_sin_to_cos: bool = True, shift: int = 0
) -> Float[Array, "batch width"]:
    """Return sines and cosines of the time step at geometric frequencies 1 ... 1e-4."""
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
    """Return the inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * patch, w * patch, c // patch**2)


class UNet(nn.Module):
    """Predicts noise (or v) from a noisy image, a time step and text states.

    Fields that are given for each stage are tuples, down the UNet; the way up mirrors them.
    `encoder_hid_dim` is the width of the text states handed in (None: they already have
    `cross_attention_dim`). `attention_head_dim` is, as in diffusers, the width of a head in
    IF's blocks and their number in Stable Diffusion's. With out_channels = 2 in_channels the
    second half is a variance.
    """

    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    down_block_types: tuple[str, ...]
    mid_block_type: str
    up_block_types: tuple[str, ...]
    attention_head_dim: tuple[int, ...]
    cross_attention_dim: int
    transformer_layers_per_block: tuple[int, ...]
    only_cross_attention: tuple[bool, ...]
    mid_block_only_cross_attention: bool = False
    use_linear_projection: bool = False
    encoder_hid_dim: int | None = None
    addition_embed_type: str | None = None
    addition_embed_type_num_heads: int = 64
    cross_attention_norm: str | None = None
    resnet_time_scale_shift: str = "default"
    resnet_skip_time_act: bool = False
    resnet_out_scale_factor: float = 1.0
    mid_block_scale_factor: float = 1.0
    act_fn: str = "silu"
    time_embedding_dim: int | None = None
    time_embedding_act_fn: str | None = None
    timestep_post_act: str | None = None
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
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
        x = conv3x3(self.block_out_channels[0], "conv_in", self.dtype)(x)
        kept, last = [x], len(self.block_out_channels) - 1
        for level, name in enumerate(self.down_block_types):
            x, states = self._down(level, DOWN_KINDS[name], level < last)(x, *context)
            kept.extend(states)
        x = self._mid()(x, *context)
        for i, name in enumerate(self.up_block_types):
            layers = self.layers_per_block + 1
            kept, states = kept[:-layers], kept[-layers:]
            size: Any = kept[-1].shape[1:3] if i < last else None
            x = self._up(i, last - i, UP_KINDS[name], size)(x, states, *context)
        return self._head(x)

    @property
    def text_width(self) -> int:
        """How many numbers the text states have that are handed in."""
        return self.encoder_hid_dim or self.cross_attention_dim

    def _condition(self, timesteps, text, text_mask):
        """Return the time embedding, with the pooled text added, and the projected text states."""
        features = timestep_features(
            timesteps, self.block_out_channels[0], self.flip_sin_to_cos, self.freq_shift
        )
        width = self.time_embedding_dim or 4 * self.block_out_channels[0]
        embed = TimestepEmbedding(
            width, self.act_fn, self.timestep_post_act, self.dtype, name="time_embedding"
        )
        temb = embed(features.astype(self.dtype))
        text = text.astype(self.dtype)
        if self.addition_embed_type == "text":
            heads = self.addition_embed_type_num_heads
            pooled = TextTimeEmbedding(width, heads, self.dtype, name="add_embedding")
            temb = temb + pooled(text, text_mask)
        if self.encoder_hid_dim is not None:
            name = "encoder_hid_proj"
            text = nn.Dense(self.cross_attention_dim, dtype=self.dtype, name=name)(text)
        return activation(self.time_embedding_act_fn)(temb), text

    def _down(self, level: int, kind: BlockSpec, resize: bool) -> DownStage:
        channels = self.block_out_channels[level]
        resnet = self._resnet(channels, kind)
        if kind.resample == "resnet":
            resample: Any = functools.partial(resnet, resample="down")
        else:
            resample = functools.partial(Downsample, channels, dtype=self.dtype)
        return DownStage(
            layers=self.layers_per_block,
            resnet=resnet,
            attention=self._attention(level, kind, self.only_cross_attention[level]),
            resample=resample if resize else None,
            name=f"down_blocks_{level}",
        )

    def _mid(self) -> MidStage:
        kind, level = MID_KINDS[self.mid_block_type], len(self.block_out_channels) - 1
        scaled = {"scale": self.mid_block_scale_factor}
        return MidStage(
            layers=1,
            resnet=functools.partial(self._resnet(self.block_out_channels[-1], kind), **scaled),
            attention=self._attention(level, kind, self.mid_block_only_cross_attention),
            name="mid_block",
        )

    def _up(self, index: int, level: int, kind: BlockSpec, size: tuple[int, int] | None) -> UpStage:
        """Return the stage at a level of the way up; `size` is the next one's, if there is one."""
        channels = self.block_out_channels[level]
        resnet = self._resnet(channels, kind)
        if kind.resample == "resnet":
            resample: Any = functools.partial(resnet, resample="up")
        else:
            resample = functools.partial(Upsample, channels, size, dtype=self.dtype)
        return UpStage(
            layers=self.layers_per_block + 1,
            resnet=resnet,
            attention=self._attention(level, kind, self.only_cross_attention[level]),
            resample=None if size is None else resample,
            name=f"up_blocks_{index}",
        )

    def _resnet(self, channels: int, kind: BlockSpec) -> Callable[..., ResnetBlock]:
        # As in diffusers, Stable Diffusion's blocks know neither of these two settings.
        own: dict[str, Any] = {}
        if kind.attention == "added_kv" or kind.resample == "resnet":
            own = {
                "skip_time_act": self.resnet_skip_time_act,
                "scale": self.resnet_out_scale_factor,
            }
        return functools.partial(
            ResnetBlock,
            channels,
            self.norm_num_groups,
            self.norm_eps,
            self.act_fn,
            self.resnet_time_scale_shift,
            dtype=self.dtype,
            **own,
        )

    def _attention(
        self, level: int, kind: BlockSpec, only_cross: bool
    ) -> Callable[..., nn.Module] | None:
        if kind.attention == "added_kv":
            return functools.partial(
                AddedKVAttention,
                self.attention_head_dim[level],
                self.norm_num_groups,
                self.cross_attention_norm,
                only_cross,
                dtype=self.dtype,
            )
        if kind.attention == "transformer":
            return functools.partial(
                ImageTransformer,
                self.attention_head_dim[level],
                self.transformer_layers_per_block[level],
                self.norm_num_groups,
                self.use_linear_projection,
                only_cross,
                dtype=self.dtype,
            )
        return None

    def _head(self, x):
        norm = nn.GroupNorm(
            self.norm_num_groups, epsilon=self.norm_eps, dtype=self.dtype, name="conv_norm_out"
        )
        channels = self.out_channels * self.patch_size**2
        conv = conv3x3(channels, "conv_out", self.dtype, kernel_init=nn.initializers.zeros)
        x = conv(activation(self.act_fn)(norm(x)))
        return depth_to_space(x, self.patch_size).astype(jnp.float32)


_ACTIVATION = one_of(*ACTIVATIONS)
_WIDTH, _DEPTH = whole(), whole(1, 16)
_MOST_STAGES = 8
_MOST_BLOCKS = 256
_PER_STAGE_KIND = each(_WIDTH, _MOST_STAGES)
_KINDS = {
    "in_channels": _WIDTH,
    "out_channels": _WIDTH,
    "block_out_channels": each(whole(4), _MOST_STAGES),
    "layers_per_block": _DEPTH,
    "down_block_types": each(WORD, _MOST_STAGES),
    "mid_block_type": WORD,
    "up_block_types": each(WORD, _MOST_STAGES),
    "attention_head_dim": either(_WIDTH, _PER_STAGE_KIND),
    "cross_attention_dim": _WIDTH,
    "transformer_layers_per_block": either(_DEPTH, each(_DEPTH, _MOST_STAGES)),
    "only_cross_attention": either(FLAG, each(FLAG, _MOST_STAGES)),
    "mid_block_only_cross_attention": either(FLAG, NULL),
    "use_linear_projection": FLAG,
    "encoder_hid_dim": either(_WIDTH, NULL),
    "addition_embed_type_num_heads": _WIDTH,
    "resnet_skip_time_act": FLAG,
    "resnet_out_scale_factor": number(1e-3, 1e3),
    "mid_block_scale_factor": number(1e-3, 1e3),
    "act_fn": _ACTIVATION,
    "time_embedding_dim": either(_WIDTH, NULL),
    "time_embedding_act_fn": either(_ACTIVATION, NULL),
    "timestep_post_act": either(_ACTIVATION, NULL),
    "flip_sin_to_cos": FLAG,
    "freq_shift": whole(0, 1),
    "norm_num_groups": _WIDTH,
    "norm_eps": number(1e-12, 1),
    "patch_size": whole(1, 64),
}

# Settings of diffusers' config that would change the network in ways this one does not know.
_ONLY = {
    "addition_embed_type": (None, "text"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None, "layer_norm", "group_norm"),
    "downsample_padding": (1,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim_type": (None, "text_proj"),
    "num_attention_heads": (None,),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "reverse_transformer_layers_per_block": (None,),
    "time_cond_proj_dim": (None,),
    "time_embedding_type": ("positional",),
}

# diffusers' values of keys that a config.json leaves out, where they are not those of UNet.
_DEFAULTS: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "attention_head_dim": 8,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "only_cross_attention": False,
    "mid_block_only_cross_attention": None,
}
_PER_STAGE = ("attention_head_dim", "transformer_layers_per_block", "only_cross_attention")


def unet_from_config(config: dict[str, Any], dtype: Any = jnp.float32) -> UNet:
    """Return the UNet that a diffusers `config.json` (or the embedded model's) describes.

    Raises:
      UserError: the config asks for a block or a setting that is not built here, or its values
        make no sense.
    """
    where = "the UNet's config.json"
    check_fields(config, {}, where)
    config = _DEFAULTS | config
    for key, values in _ONLY.items():
        if config.get(key, values[0]) not in values:
            raise _unsupported(key, config[key], values)
    check_fields(config, _KINDS, where)
    _check_blocks(config)
    stages = len(config["block_out_channels"])
    only_cross = config["only_cross_attention"]
    if config["mid_block_only_cross_attention"] is None:
        config["mid_block_only_cross_attention"] = only_cross is True
    for key in _PER_STAGE:
        if not isinstance(config[key], (list, tuple)):
            config[key] = (config[key],) * stages
    for key in (*_PER_STAGE, "down_block_types", "up_block_types"):
        if len(config[key]) != stages:
            raise UserError(
                f"the UNet's config.json has {stages} block_out_channels, but {key} has "
                f"{len(config[key])} entries"
            )
    _check_widths(config, where)
    fields = {f.name for f in dataclasses.fields(UNet)} - {"parent", "name", "dtype"}
    found: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in fields
    }
    return UNet(**found, dtype=dtype)


def _check_blocks(config: dict[str, Any]) -> None:
    for key, kinds in (
        ("down_block_types", DOWN_KINDS),
        ("mid_block_type", MID_KINDS),
        ("up_block_types", UP_KINDS),
    ):
        names = config[key] if isinstance(config[key], (list, tuple)) else [config[key]]
        for name in names:
            if name not in kinds:
                raise _unsupported(key, name, tuple(kinds))


def _check_widths(config: dict[str, Any], where: str) -> None:
    """Raise a UserError for widths that groups or heads do not divide, and for too many blocks."""
    config = {field.name: field.default for field in dataclasses.fields(UNet)} | config
    widths, heads = config["block_out_channels"], config["attention_head_dim"]
    ways = zip(config["down_block_types"], reversed(config["up_block_types"]), strict=True)
    for level, (down, up) in enumerate(ways):
        channels = f"the channels of stage {level}", widths[level]
        check_divides(f"{where} has norm_num_groups", config["norm_num_groups"], *channels)
        attends = DOWN_KINDS[down].attention or UP_KINDS[up].attention
        if attends or level == len(widths) - 1:  # the last one's are the middle's too
            check_divides(f"{where} has attention_head_dim", heads[level], *channels)
    if config["cross_attention_norm"] == "group_norm":
        field = f"{where} has cross_attention_norm='group_norm' of groups"
        width = config["cross_attention_dim"]
        check_divides(field, CROSS_GROUPS, "cross_attention_dim", width)
    if config["addition_embed_type"] == "text":
        field = f"{where} has addition_embed_type_num_heads"
        width = config["encoder_hid_dim"] or config["cross_attention_dim"]
        check_divides(field, config["addition_embed_type_num_heads"], "the text's width", width)
    blocks = len(widths) * config["layers_per_block"] * max(config["transformer_layers_per_block"])
    if blocks > _MOST_BLOCKS:
        raise UserError(
            f"{where} asks for {blocks} blocks, more than any model has; fetch it again"
        )


def check_size(unet: UNet, size: int, what: str) -> None:
    """Raise a UserError for a side, called `what`, that a UNet cannot halve at each stage.

    Odd sides are halved and doubled again by convolutions, but not by residual blocks.
    """
    check_divides(f"{what} is {size}, and patch_size", unet.patch_size, "it", size)
    kinds = [DOWN_KINDS[name] for name in unet.down_block_types[:-1]]
    kinds += [UP_KINDS[name] for name in unet.up_block_types[:-1]]
    halvings = len(unet.block_out_channels) - 1
    if size // unet.patch_size % 2**halvings and any(k.resample == "resnet" for k in kinds):
        raise UserError(
            f"{what} is {size}, which a UNet of this kind cannot halve {halvings} times: give a "
            f"multiple of {unet.patch_size * 2**halvings}"
        )


def _unsupported(key: str, value: Any, supported: tuple) -> UserError:
    listed = ", ".join(repr(v) for v in supported)
    return UserError(
        f"the UNet's config.json has {key}={shown(value)}, which is not supported; "
        f"supported: {listed}"
    )
