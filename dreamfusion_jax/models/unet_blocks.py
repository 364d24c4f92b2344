"""Blocks of the UNets and of the VAE: residual blocks, and the stages that are made of them.

Images are [batch, height, width, channels]. Submodule names follow diffusers'.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "relu": jax.nn.relu,
    "mish": jax.nn.mish,
}


def activation(name: str | None) -> Callable[[jax.Array], jax.Array]:
    """Return the activation function of that name (diffusers' names); None is the identity."""
    if name is None:
        return lambda x: x
    return ACTIVATIONS[name]


def upsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Double height and width, nearest neighbor."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def downsample(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Halve height and width, mean of 2 x 2."""
    return nn.avg_pool(x, (2, 2), strides=(2, 2))


def conv3x3(channels: int, name: str, dtype: Any = jnp.float32, **kwargs: Any) -> nn.Conv:
    """Return a convolution of 3 x 3 pixels; it keeps the size without `strides` and `padding`."""
    settings: dict[str, Any] = {"padding": ((1, 1), (1, 1)), "conv_general_dilated": _convolve}
    return nn.Conv(channels, (3, 3), dtype=dtype, name=name, **settings | kwargs)


def _convolve(x: jax.Array, kernel: jax.Array, strides, padding, **how: Any) -> jax.Array:
    """lax.conv_general_dilated, but for few pixels of many channels on a CPU.

    XLA's convolution for CPUs is half as fast there as one product of matrices.
    """

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **how)

    def product(x, kernel):
        size = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [x[:, i : i + size[0], j : j + size[1]] for i in range(3) for j in range(3)]
        return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])

    _, height, width, channels = x.shape
    few = height * width <= 256 and channels >= 512
    if not few or tuple(strides) != (1, 1) or tuple(padding) != ((1, 1), (1, 1)):
        return plain(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=product, default=plain)


class TimestepEmbedding(nn.Module):
    """Two-layer map of the sinusoidal time features."""

    width: int
    act: str
    post_act: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "batch n"]) -> Float[Array, "batch width"]:
        """[B, n] -> [B, width]."""
        h = nn.Dense(self.width, dtype=self.dtype, name="linear_1")(features)
        h = nn.Dense(self.width, dtype=self.dtype, name="linear_2")(activation(self.act)(h))
        return activation(self.post_act)(h)


class ResnetBlock(nn.Module):
    """Residual block, told the time by a sum before its second norm, or by scale and shift after.

    `time_scale_shift` is "default" (the sum) or "scale_shift"; without a time embedding there
    is neither. `skip_time_act` leaves out the activation of the time embedding. `resample`
    ("up", "down" or None) is applied after the first norm and to the shortcut.
    """

    channels: int
    groups: int
    eps: float = 1e-5
    act: str = "silu"
    time_scale_shift: str = "default"
    skip_time_act: bool = False
    scale: float = 1.0
    resample: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], temb: Float[Array, "batch time"] | None
    ) -> Float[Array, "batch h2 w2 channels"]:
        """x [B, H, W, C] and time embedding [B, E] -> [B, H', W', channels]."""
        act = activation(self.act)
        change = {"up": upsample, "down": downsample, None: lambda y: y}[self.resample]
        norm = functools.partial(
            nn.GroupNorm, num_groups=self.groups, epsilon=self.eps, dtype=self.dtype
        )
        h = conv3x3(self.channels, "conv1", self.dtype)(change(act(norm(name="norm1")(x))))
        scale, shift = self._read_time(temb if self.skip_time_act or temb is None else act(temb))
        h = norm(name="norm2")(h if scale is not None else h + shift)
        h = h if scale is None else h * (1 + scale) + shift
        h = conv3x3(self.channels, "conv2", self.dtype, kernel_init=nn.initializers.zeros)(act(h))
        x = change(x)
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1, 1), dtype=self.dtype, name="conv_shortcut")(x)
        return (x + h) / self.scale

    def _read_time(self, temb: jax.Array | None) -> tuple[jax.Array | None, jax.Array | float]:
        """Scale and shift; no scale stands for a shift before the norm."""
        if temb is None:
            return None, 0.0
        parts = 2 if self.time_scale_shift == "scale_shift" else 1
        told = nn.Dense(parts * self.channels, dtype=self.dtype, name="time_emb_proj")(temb)
        *scale, shift = jnp.split(told[:, None, None, :], parts, axis=-1)
        return (scale[0] if scale else None), shift


class Downsample(nn.Module):
    """Halves height and width by a strided convolution."""

    channels: int
    padding: tuple = ((1, 1), (1, 1))
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w c"]) -> Float[Array, "batch h2 w2 channels"]:
        """[B, H, W, C] -> [B, H / 2, W / 2, channels]."""
        how = {"strides": (2, 2), "padding": self.padding}
        return conv3x3(self.channels, "conv", self.dtype, **how)(x)


class Upsample(nn.Module):
    """Doubles height and width, nearest neighbor, then a convolution.

    What is more than `size` is cut off before the convolution: half of an odd side was rounded up.
    """

    channels: int
    size: tuple[int, int] | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 channels"]:
        """[B, H, W, C] -> [B, 2 H, 2 W, channels], or of `size`."""
        x = upsample(x)
        height, width = self.size or x.shape[1:3]
        return conv3x3(self.channels, "conv", self.dtype)(x[:, :height, :width])


class Stage(nn.Module):
    """What the down, middle and up stages share.

    `resnet` makes a residual block and `attention` the attention after each of them (None: the
    stage has none), both from a name; `resample` makes what changes the size at the end.
    `*context` of the calls is handed to the attention: text states and their mask.
    """

    layers: int
    resnet: Callable[..., ResnetBlock]
    attention: Callable[..., nn.Module] | None = None
    resample: Callable[..., nn.Module] | None = None

    def layer(self, i: int, x: jax.Array, temb: jax.Array | None, *context: Any) -> jax.Array:
        """Apply residual block i, and its attention."""
        x = self.resnet(name=f"resnets_{i}")(x, temb)
        return x if self.attention is None else self.attention(name=f"attentions_{i}")(x, *context)

    def resized(self, name: str, x: jax.Array, temb: jax.Array | None) -> jax.Array:
        """x in the size of the next stage."""
        assert self.resample is not None  # as it is asked only where there is one
        module: Any = self.resample(name=name)
        return module(x, temb) if isinstance(module, ResnetBlock) else module(x)


class DownStage(Stage):
    """Residual blocks, the size halved at the end."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], temb: Float[Array, "batch time"] | None, *context: Any
    ) -> tuple[Float[Array, "batch h2 w2 channels"], list]:
        """Return the stage's output and every state kept for the way up."""
        kept = []
        for i in range(self.layers):
            x = self.layer(i, x, temb, *context)
            kept.append(x)
        if self.resample is not None:
            x = self.resized("downsamplers_0", x, temb)
            kept.append(x)
        return x, kept


class MidStage(Stage):
    """A residual block, then `layers` times an attention and a residual block."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], temb: Float[Array, "batch time"] | None, *context: Any
    ) -> Float[Array, "batch h w c"]:
        """[B, H, W, C] -> the same."""
        for i in range(self.layers):
            x = self.layer(i, x, temb, *context)
        return self.resnet(name=f"resnets_{self.layers}")(x, temb)


class UpStage(Stage):
    """Residual blocks that take in the kept states, the size doubled at the end."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch h w c"],
        kept: list,
        temb: Float[Array, "batch time"] | None,
        *context: Any,
    ) -> Float[Array, "batch h2 w2 channels"]:
        """Join x with the kept states (one for each layer, or none), the last one first."""
        for i in range(self.layers):
            if kept:
                x = jnp.concatenate([x, kept[-1 - i]], axis=-1)
            x = self.layer(i, x, temb, *context)
        return x if self.resample is None else self.resized("upsamplers_0", x, temb)
