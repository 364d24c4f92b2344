"""CLIP (Radford et al. 2021): vision transformer and text encoder with a common space.

Submodule names follow transformers' CLIPModel; the text encoder is Stable Diffusion's.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dreamfusion_jax.models.clip_text import CLIPEncoder, CLIPTextEncoder
from dreamfusion_jax.models.image_text import unit


class PatchEmbeddings(nn.Module):
    """Embeddings of a picture's patches after that of the class, and of their positions."""

    width: int
    patch: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch tokens width"]:
        """[B, S, S, 3] -> [B, 1 + (S / patch)^2, D]."""
        init = nn.initializers.normal(0.02)
        side = (self.patch, self.patch)
        conv = nn.Conv(
            self.width,
            side,
            side,
            "VALID",
            use_bias=False,
            dtype=self.dtype,
            name="patch_embedding",
        )
        patches = conv(pixels).reshape(len(pixels), -1, self.width)
        first = self.param("class_embedding", init, (self.width,)).astype(self.dtype)
        first = jnp.broadcast_to(first, (len(pixels), 1, self.width))
        tokens = jnp.concatenate([first, patches], axis=1)
        places = nn.Embed(
            tokens.shape[1], self.width, embedding_init=init, name="position_embedding"
        )
        return tokens + places(jnp.arange(tokens.shape[1])).astype(self.dtype)


class CLIPVisionEncoder(nn.Module):
    """Pictures to one state each; fields carry the names of transformers' CLIPVisionConfig."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    patch_size: int = 32
    image_size: int = 224
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pixels: Float[Array, "batch size size 3"]) -> Float[Array, "batch width"]:
        """Return the state of the class token for normalized pixels."""

        norm = functools.partial(nn.LayerNorm, epsilon=self.layer_norm_eps, dtype=self.dtype)
        embed = PatchEmbeddings(self.hidden_size, self.patch_size, self.dtype, name="embeddings")
        encoder = CLIPEncoder(
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
            self.hidden_act,
            self.layer_norm_eps,
            causal=False,
            dtype=self.dtype,
            name="encoder",
        )
        states = encoder(norm(name="pre_layrnorm")(embed(pixels)))  # the published spelling
        return norm(name="post_layernorm")(states[:, 0])


class CLIPNetwork(nn.Module):
    """Both towers, the projections into their common space, and the temperature."""

    vision_model: CLIPVisionEncoder
    text_model: CLIPTextEncoder
    width: int

    def setup(self):
        """Return the projections and the temperature's logarithm."""
        how = {"use_bias": False, "dtype": self.vision_model.dtype}
        self.visual_projection = nn.Dense(self.width, **how)
        self.text_projection = nn.Dense(self.width, **how)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(np.log(1 / 0.07)), ())

    def __call__(
        self,
        pixels: Float[Array, "batch size size 3"],
        tokens: Int[Array, "n length"],
        ends: Int[Array, "n"],
    ) -> tuple[Float[Array, "batch width"], Float[Array, "n width"], Float[Array, ""]]:
        """Return unit vectors of both, and the factor of their products."""
        return self.encode_images(pixels), self.encode_texts(tokens, ends), self.scale()

    def encode_images(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch width"]:
        """Return normalized pixels -> unit vectors."""
        return unit(self.visual_projection(self.vision_model(pixels)).astype(jnp.float32))

    def encode_texts(
        self, tokens: Int[Array, "batch tokens"], ends: Int[Array, "batch"]
    ) -> Float[Array, "batch width"]:
        """Return token ids, and where the end token stands in each row -> unit vectors."""
        states = self.text_model(tokens)
        states = jnp.take_along_axis(states, ends[:, None, None], axis=1)[:, 0]
        return unit(self.text_projection(states).astype(jnp.float32))

    def scale(self) -> Float[Array, ""]:
        """exp(logit_scale), which products are multiplied with."""
        return jnp.exp(self.logit_scale)
