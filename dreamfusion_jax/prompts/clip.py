"""CLIP's text encoder, as Stable Diffusion reads it.

Submodule names follow transformers' CLIPTextModel.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dreamfusion_jax.errors import UserError


def quick_gelu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """x sigmoid(1.702 x), the GELU of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


_ACTIVATIONS: dict[str, Callable] = {
    "quick_gelu": quick_gelu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


class CLIPAttention(nn.Module):
    """Self-attention; `causal` hides later tokens."""

    heads: int
    causal: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """[B, T, D] -> the same."""
        batch, tokens, width = x.shape

        def project(name):
            h = nn.Dense(width, dtype=self.dtype, name=name)(x)
            return h.reshape(batch, tokens, self.heads, -1)

        query, key, value = project("q_proj"), project("k_proj"), project("v_proj")
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        logits *= query.shape[-1] ** -0.5
        if self.causal:
            logits = jnp.where(np.tri(tokens, dtype=bool), logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
        return nn.Dense(width, dtype=self.dtype, name="out_proj")(out)


class CLIPFeedForward(nn.Module):
    """Two-layer feed-forward."""

    hidden: int
    act: str
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """[B, T, D] -> the same."""
        h = _ACTIVATIONS[self.act](nn.Dense(self.hidden, dtype=self.dtype, name="fc1")(x))
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(h)


class CLIPLayer(nn.Module):
    """Self-attention, then feed-forward, each normed and residual."""

    heads: int
    hidden: int
    act: str
    eps: float
    causal: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """[B, T, D] -> the same."""

        norm = functools.partial(nn.LayerNorm, epsilon=self.eps, dtype=self.dtype)
        attention = CLIPAttention(self.heads, self.causal, self.dtype, name="self_attn")
        x = x + attention(norm(name="layer_norm1")(x))
        feed_forward = CLIPFeedForward(self.hidden, self.act, self.dtype, name="mlp")
        return x + feed_forward(norm(name="layer_norm2")(x))


class CLIPEncoder(nn.Module):
    """The layers."""

    layers: int
    heads: int
    hidden: int
    act: str
    eps: float
    causal: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """[B, T, D] -> the same."""
        shape = (self.heads, self.hidden, self.act, self.eps, self.causal, self.dtype)
        for i in range(self.layers):
            x = CLIPLayer(*shape, name=f"layers_{i}")(x)
        return x


class TokenEmbeddings(nn.Module):
    """Embeddings of tokens and of their positions."""

    vocabulary: int
    positions: int
    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens width"]:
        """[B, T] -> [B, T, D]."""
        init = nn.initializers.normal(0.02)
        words = nn.Embed(self.vocabulary, self.width, embedding_init=init, name="token_embedding")
        places = nn.Embed(
            self.positions, self.width, embedding_init=init, name="position_embedding"
        )
        return (words(tokens) + places(jnp.arange(tokens.shape[1]))).astype(self.dtype)


class CLIPTextEncoder(nn.Module):
    """Token ids to text states; fields carry the names of transformers' CLIPTextConfig.

    Every layer counts: models that read the last but one are published without the last.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch tokens"]) -> Float[Array, "batch tokens width"]:
        """tokens [B, T], T at most max_position_embeddings -> states [B, T, D]."""
        embed = TokenEmbeddings(
            self.vocab_size,
            self.max_position_embeddings,
            self.hidden_size,
            self.dtype,
            name="embeddings",
        )
        encoder = CLIPEncoder(
            self.num_hidden_layers,
            self.num_attention_heads,
            self.intermediate_size,
            self.hidden_act,
            self.layer_norm_eps,
            causal=True,
            dtype=self.dtype,
            name="encoder",
        )
        norm = nn.LayerNorm(epsilon=self.layer_norm_eps, dtype=self.dtype, name="final_layer_norm")
        return norm(encoder(embed(tokens)))


def clip_text_from_config(config: Mapping[str, Any], dtype: Any = jnp.float32) -> CLIPTextEncoder:
    """The encoder that transformers' CLIPTextModel `config.json` describes."""
    check_activation(config)
    fields = {f.name for f in dataclasses.fields(CLIPTextEncoder)} - {"parent", "name", "dtype"}
    return CLIPTextEncoder(**{k: v for k, v in config.items() if k in fields}, dtype=dtype)


def check_activation(config: Mapping[str, Any]) -> None:
    """Raises a UserError for the config of a tower with an activation that is not known."""
    act = config.get("hidden_act", "quick_gelu")
    if act not in _ACTIVATIONS:
        raise UserError(
            f"the encoder's config.json has hidden_act={act!r}; "
            f"supported: {', '.join(_ACTIVATIONS)}"
        )
