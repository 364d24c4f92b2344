"""What is seen where the object is not: an environment map, a flat color or a texture."""

import abc
import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dreamfusion_jax.distributions import Normal
from dreamfusion_jax.registry import check_within, register
from dreamfusion_jax.scene.encoding import integrated_encoding


@dataclasses.dataclass(frozen=True)
class Background(abc.ABC):
    """What training views show where the object is not.

    A class of its own is registered with `@register("background", NAME)`.
    """

    not_in_config: ClassVar[tuple[str, ...]] = ("channels",)  # the scene's to say
    channels: int = 3

    def init(self, key: PRNGKeyArray) -> Any:
        """Return fresh parameters; by default there are none."""
        return {}

    @abc.abstractmethod
    def colors(
        self, params: Any, directions: Float[Array, "*rays 3"], key: PRNGKeyArray
    ) -> Float[Array, "*rays some"]:
        """Return the colors of a view in [0, 1]; channels that they lack are 0.5."""


@register("background", "environment")
@dataclasses.dataclass(frozen=True)
class Environment(Background):
    """An environment map that is learnt: `layers` of `width` on `frequencies` octaves."""

    width: int = 64
    layers: int = 2
    frequencies: int = 4

    def __post_init__(self):
        check_within(self, width=(1, 8192), layers=(0, 256), frequencies=(1, 32))

    @property
    def network(self) -> "EnvironmentMap":
        """The network from ray direction to color."""
        return EnvironmentMap(self.width, self.layers, self.frequencies, self.channels)

    def init(self, key: PRNGKeyArray) -> Any:
        """Return the parameters of the network."""
        return self.network.init(key, jnp.zeros((1, 3)))

    def colors(
        self, params: Any, directions: Float[Array, "*rays 3"], key: PRNGKeyArray
    ) -> Float[Array, "*rays some"]:
        """Return the colors that are seen in unit directions."""
        colors: Any = self.network.apply(params, directions)
        return colors


@register("background", "color")
@dataclasses.dataclass(frozen=True)
class FlatColor(Background):
    """A flat color a view, ~ N(`mean`, `std`^2) in each channel, clipped to [0, 1]."""

    mean: float = 0.5
    std: float = 0.3

    def __post_init__(self):
        check_within(self, mean=(0, 10), std=(0, 10))

    def colors(
        self, params: Any, directions: Float[Array, "*rays 3"], key: PRNGKeyArray
    ) -> Float[Array, "*rays some"]:
        """Return the color for every ray."""
        color = random_color(key, self.mean, self.std, self.channels)
        return jnp.broadcast_to(color, (*directions.shape[:-1], len(color)))


@register("background", "textures")
@dataclasses.dataclass(frozen=True)
class Textures(Background):
    """A random texture a view, see `random_texture`."""

    def colors(
        self, params: Any, directions: Float[Array, "*rays 3"], key: PRNGKeyArray
    ) -> Float[Array, "*rays some"]:
        """Return the texture."""
        return random_texture(key, directions.shape[0])


def in_front(
    color: Float[Array, "*batch channels"],
    opacity: Float[Array, "*batch"],
    background: Float[Array, "*batch some"],
) -> Float[Array, "*batch channels"]:
    """Return premultiplied colors over a background; channels that it lacks are 0.5."""
    lacking = color.shape[-1] - background.shape[-1]
    if lacking:
        fill = [(0, 0)] * (background.ndim - 1) + [(0, lacking)]
        background = jnp.pad(background, fill, constant_values=0.5)
    return color + (1.0 - opacity[..., None]) * background


class EnvironmentMap(nn.Module):
    """An MLP from ray direction to color (paper section 3.1).

    Few frequencies and units: a background that cannot paint the object by itself.
    """

    width: int = 64
    layers: int = 2
    frequencies: int = 4
    channels: int = 3

    @nn.compact
    def __call__(self, directions: Float[Array, "*rays 3"]) -> Float[Array, "*rays channels"]:
        """Return colors in [0, 1] seen in unit directions."""
        h = integrated_encoding(directions, 0.0, self.frequencies)
        for i in range(self.layers):
            h = nn.silu(nn.Dense(self.width, name=f"layer{i}")(h))
        return nn.sigmoid(nn.Dense(self.channels, name="color")(h))


def random_color(
    key: PRNGKeyArray, mean: float, std: float, channels: int = 3
) -> Float[Array, "channels"]:
    """Return a flat background color ~ N(mean, std^2) in each channel, clipped to [0, 1]."""
    color = Normal(mean, std).sample(seed=key, sample_shape=(channels,))
    return jnp.clip(color, 0.0, 1.0)


# Colors of natural images are correlated: directions in which they vary, by their strength.
_COLOR_DIRECTIONS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_SQUARES = 8  # a side of the checkerboard
_BLUR_STD, _BLUR_RADIUS = 10 / 224, 7 / 224  # image widths


def random_texture(key: PRNGKeyArray, size: int) -> Float[Array, "size size 3"]:
    """Return noise, a checkerboard or a Fourier texture, blurred, as in Dream Fields (section 4.5).

    Each is drawn a third of the time; the blur's standard deviation is uniform up to 10 pixels
    in 224.

    Args:
      key: draws it.
      size: pixels a side.

    Returns:
      Colors in [0, 1].
    """
    noise_key, board_key, wave_key, choice_key, blur_key = jax.random.split(key, 5)
    kinds = jnp.stack(
        [
            jax.random.uniform(noise_key, (size, size, 3)),
            _checkerboard(board_key, size),
            _fourier_texture(wave_key, size),
        ]
    )
    chosen = kinds[jax.random.randint(choice_key, (), 0, len(kinds))]
    return _blurred(chosen, jax.random.uniform(blur_key) * _BLUR_STD * size)


def _checkerboard(key: PRNGKeyArray, size: int) -> Float[Array, "size size 3"]:
    square = jnp.arange(size) * _SQUARES // size
    odd = (square[:, None] + square) % 2
    return jax.random.uniform(key, (2, 3))[odd]


def _fourier_texture(key: PRNGKeyArray, size: int) -> Float[Array, "size size 3"]:
    """Return a random picture whose spectrum falls as f^-1.5 (Mordvintsev et al. 2018)."""
    along, across = jnp.fft.rfftfreq(size), jnp.fft.fftfreq(size)[:, None]
    frequency = jnp.maximum(jnp.hypot(along, across), 1 / size)
    real, imaginary = 0.2 * jax.random.normal(key, (2, *frequency.shape, 3))
    spectrum = jax.lax.complex(real, imaginary) * (size / frequency[..., None] ** 1.5)
    waves = jnp.fft.irfft2(spectrum, (size, size), axes=(0, 1)) / 4
    directions = _COLOR_DIRECTIONS / np.linalg.norm(_COLOR_DIRECTIONS, axis=0).max()
    return jax.nn.sigmoid(waves @ directions.T)


def _blurred(
    image: Float[Array, "size size 3"], std: Float[Array, ""]
) -> Float[Array, "size size 3"]:
    """Return a Gaussian blur of a standard deviation in pixels; the t_vals are continued."""
    radius = max(1, round(_BLUR_RADIUS * len(image)))
    offsets = jnp.arange(-radius, radius + 1)
    kernel = jnp.exp(-0.5 * (offsets / jnp.maximum(std, 1e-3)) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pads = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
        padded = jnp.pad(image, pads, "edge")
        parts = (
            jax.lax.slice_in_dim(padded, i, i + len(image), axis=axis)
            for i in range(2 * radius + 1)
        )
        image = sum(weight * part for weight, part in zip(kernel, parts, strict=True))
    return image
