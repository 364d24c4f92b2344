"""The variational autoencoder of Stable Diffusion: images to latents of an eighth their size.

Submodule names follow diffusers' AutoencoderKL, whose weights fit after the renaming in
`pretrained/convert.py`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
from dreamfusion_jax.models.attention import SelfAttention
from dreamfusion_jax.models.unet_blocks import (
    ACTIVATIONS,
    Downsample,
    DownStage,
    MidStage,
    ResnetBlock,
    Upsample,
    UpStage,
    activation,
    conv3x3,
)

EPS = 1e-6


class VAEStack(nn.Module):
    """What encoder and decoder share. `channels` are those of the stages from image to latent."""

    out: int
    channels: tuple[int, ...]
    layers: int
    groups: int
    act: str
    mid_attention: bool
    dtype: Any = jnp.float32

    def resnet(self, channels: int) -> Callable[..., ResnetBlock]:
        """Return what makes a residual block from its name."""
        return functools.partial(
            ResnetBlock, channels, self.groups, EPS, self.act, dtype=self.dtype
        )

    def middle(self, x: jax.Array) -> jax.Array:
        """Return the middle stage, at the size of the latents."""
        attention = functools.partial(SelfAttention, self.groups, EPS, dtype=self.dtype)
        stage = MidStage(
            layers=1,
            resnet=self.resnet(self.channels[-1]),
            attention=attention if self.mid_attention else None,
            name="mid_block",
        )
        return stage(x, None)

    def head(self, x: jax.Array) -> jax.Array:
        """Norm, activation, convolution to the output's channels."""
        norm = nn.GroupNorm(self.groups, epsilon=EPS, dtype=self.dtype, name="conv_norm_out")
        return conv3x3(self.out, "conv_out", self.dtype)(activation(self.act)(norm(x)))


class Encoder(VAEStack):
    """Image to the parameters of the latents' distribution."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch h w out"]:
        """[B, H, W, 3] -> [B, H / 8, W / 8, out] (for four stages)."""
        x = conv3x3(self.channels[0], "conv_in", self.dtype)(x)
        for i, channels in enumerate(self.channels):
            # Padded on one side only, as the original.
            resample = functools.partial(
                Downsample, channels, padding=((0, 1), (0, 1)), dtype=self.dtype
            )
            stage = DownStage(
                layers=self.layers,
                resnet=self.resnet(channels),
                resample=resample if i < len(self.channels) - 1 else None,
                name=f"down_blocks_{i}",
            )
            x, _ = stage(x, None)
        return self.head(self.middle(x))


class Decoder(VAEStack):
    """Latents to image."""

    @nn.compact
    def __call__(self, z: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width 3"]:
        """[B, h, w, L] -> [B, 8 h, 8 w, 3] (for four stages)."""
        x = self.middle(conv3x3(self.channels[-1], "conv_in", self.dtype)(z))
        for i, channels in enumerate(reversed(self.channels)):
            stage = UpStage(
                layers=self.layers + 1,
                resnet=self.resnet(channels),
                resample=functools.partial(Upsample, channels, dtype=self.dtype)
                if i < len(self.channels) - 1
                else None,
                name=f"up_blocks_{i}",
            )
            x = stage(x, [], None)
        return self.head(x)


class VAE(nn.Module):
    """Encoder and decoder; fields carry the names of diffusers' AutoencoderKL config.

    Latents are scaled to about unit variance, as the diffusion model sees them.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    norm_num_groups: int = 32
    act_fn: str = "silu"
    scaling_factor: float = 0.18215
    shift_factor: float = 0.0
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    dtype: Any = jnp.float32

    def setup(self):
        """Make the parts, which two methods share."""
        shared = (
            self.block_out_channels,
            self.layers_per_block,
            self.norm_num_groups,
            self.act_fn,
            self.mid_block_add_attention,
            self.dtype,
        )
        latent = self.latent_channels
        self.encoder = Encoder(2 * latent, *shared)
        self.decoder = Decoder(self.out_channels, *shared)
        if self.use_quant_conv:
            self.quant_conv = nn.Conv(2 * latent, (1, 1), dtype=self.dtype)
        if self.use_post_quant_conv:
            self.post_quant_conv = nn.Conv(latent, (1, 1), dtype=self.dtype)

    @property
    def factor(self) -> int:
        """How many pixels a latent is wide."""
        return 2 ** (len(self.block_out_channels) - 1)

    def encode(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch h w latent"]:
        """Return the mean latents of images in [-1, 1]."""
        h = self.encoder(x.astype(self.dtype))
        h = self.quant_conv(h) if self.use_quant_conv else h
        mean = h[..., : self.latent_channels].astype(jnp.float32)
        return (mean - self.shift_factor) * self.scaling_factor

    def decode(self, z: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width 3"]:
        """Return images of latents, about in [-1, 1]."""
        z = (z / self.scaling_factor + self.shift_factor).astype(self.dtype)
        z = self.post_quant_conv(z) if self.use_post_quant_conv else z
        return self.decoder(z).astype(jnp.float32)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch h2 w2 3"]:
        """Encode and decodes (makes all parameters)."""
        return self.decode(self.encode(x))


_WIDTH, _MOST_STAGES = whole(), 8
_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
_KINDS = {
    "in_channels": whole(3, 3),
    "out_channels": whole(3, 3),
    "latent_channels": _WIDTH,
    "block_out_channels": each(_WIDTH, _MOST_STAGES),
    "layers_per_block": whole(1, 16),
    "norm_num_groups": _WIDTH,
    "act_fn": one_of(*ACTIVATIONS),
    "scaling_factor": either(number(1e-6, 1e6), NULL),
    "shift_factor": either(number(-1e6, 1e6), NULL),
    "use_quant_conv": either(FLAG, NULL),
    "use_post_quant_conv": either(FLAG, NULL),
    "mid_block_add_attention": either(FLAG, NULL),
} | {key: each(WORD, _MOST_STAGES) for key in _BLOCKS}


def vae_from_config(config: dict[str, Any], dtype: Any = jnp.float32) -> VAE:
    """Return the autoencoder that a diffusers AutoencoderKL `config.json` describes.

    Raises:
      UserError: the config asks for a block that is not built here, or its values make no sense.
    """
    where = "the VAE's config.json"
    check_fields(config, _KINDS, where)
    for key, kind in _BLOCKS.items():
        for name in config.get(key, ()):
            if name != kind:
                raise UserError(
                    f"{where} asks for the block {shown(name)}; only {kind!r} is supported"
                )
    fields = {f.name for f in dataclasses.fields(VAE)} - {"parent", "name", "dtype"}
    chosen = {k: v for k, v in config.items() if k in fields and v is not None}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in chosen.items()}
    vae = VAE(**values, dtype=dtype)
    for channels in vae.block_out_channels:
        field = f"{where} has norm_num_groups"
        check_divides(field, vae.norm_num_groups, "the channels of a stage", channels)
    return vae
