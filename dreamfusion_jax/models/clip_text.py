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
from dreamfusion_jax.model_files import (
    NULL,
    TABLE,
    Kind,
    check_divides,
    check_fields,
    either,
    number,
    shown,
    whole,
)


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


# Of a tower of either kind.
KINDS = {
    "hidden_size": whole(),
    "intermediate_size": whole(1, 2**20),
    "num_hidden_layers": whole(1, 256),
    "num_attention_heads": whole(1, 1024),
    "layer_norm_eps": number(1e-12, 1),
}
_TEXT_KINDS = KINDS | {
    "vocab_size": whole(1, 2**22),
    "max_position_embeddings": whole(2, 4096),
}


def part_config(config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the config of one of the two parts, "text" or "vision", of a whole CLIPModel's.

    Raises:
      UserError: it is no table.
    """
    names = (f"{part}_config", f"{part}_config_dict")
    kinds = {name: either(TABLE, NULL) for name in names}
    check_fields(config, kinds, "the CLIP model's config.json")
    # The first models were published with each part twice; the second counts.
    first, second = (config.get(name) or {} for name in names)
    return {**first, **second}


def clip_text_from_config(config: Mapping[str, Any], dtype: Any = jnp.float32) -> CLIPTextEncoder:
    """Return the encoder that transformers' CLIPTextModel `config.json` describes.

    Raises:
      UserError: it is of another kind, or its values make no sense.
    """
    check_tower(config, _TEXT_KINDS, "text")
    fields = {f.name for f in dataclasses.fields(CLIPTextEncoder)} - {"parent", "name", "dtype"}
    encoder = CLIPTextEncoder(**{k: v for k, v in config.items() if k in fields}, dtype=dtype)
    check_heads(encoder.hidden_size, encoder.num_attention_heads, "text")
    return encoder


def check_tower(config: Mapping[str, Any], kinds: Mapping[str, Kind], part: str) -> None:
    """Raise a UserError for the config of a tower that makes no sense or that is not known."""
    where = f"the {part} encoder's config.json"
    check_fields(config, kinds, where)
    act = config.get("hidden_act", "quick_gelu")
    if not isinstance(act, str) or act not in _ACTIVATIONS:
        raise UserError(
            f"{where} has hidden_act={shown(act)}; supported: {', '.join(_ACTIVATIONS)}"
        )


def check_heads(width: int, heads: int, part: str) -> None:
    """Raise a UserError where a tower's heads do not divide its width."""
    field = f"the {part} encoder's config.json has num_attention_heads"
    check_divides(field, heads, "its hidden_size", width)
