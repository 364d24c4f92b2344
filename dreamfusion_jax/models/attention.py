"""Attention: of image positions to the text and to each other, and as pooling of the text.

Submodule names follow diffusers', so that `pretrained/convert.py` maps published
weights by one rule.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

CROSS_GROUPS = 32  # of the norm of text states
# Logits are computed for some of the queries at a time where all would be more than these.
MOST_LOGITS = 2**26
_CACHED_LOGITS = 2**19  # what a CPU's cache holds: the most of one head at a time


def attend(
    query: Float[Array, "batch queries heads width"],
    key: Float[Array, "batch keys heads width"],
    value: Float[Array, "batch keys heads width"],
    bias: Float[Array, "#batch #heads 1 keys"] | None = None,
) -> Float[Array, "batch queries heads width"]:
    """Return softmax attention in f32; logits are scaled by width^-1/2.

    The logits of many queries are never in memory together. On a CPU each head is worked on by
    itself, in parts that fit into its cache: twice as fast for the 4096 positions of Stable
    Diffusion's first stage.
    """
    query = query * query.shape[-1] ** -0.5
    if query.shape[1] * key.shape[1] < 2 * _CACHED_LOGITS:
        return _attend_in_parts(query, key, value, bias)
    return jax.lax.platform_dependent(
        query, key, value, bias, cpu=_attend_by_heads, default=_attend_in_parts
    )


def _attend_in_parts(query: Array, key: Array, value: Array, bias: Array | None) -> Array:
    batch, queries, heads, width = query.shape
    parts = _parts(queries, batch * heads * queries * key.shape[1], MOST_LOGITS)
    if parts == 1:
        return _attend(key, value, bias, query)
    query = query.reshape(batch, parts, queries // parts, heads, width).swapaxes(0, 1)
    # A gradient computes the logits again instead of keeping those of every part.
    one = jax.checkpoint(functools.partial(_attend, key, value, bias))
    return jax.lax.map(one, query).swapaxes(0, 1).reshape(batch, queries, heads, width)


def _attend(key: Array, value: Array, bias: Array | None, query: Array) -> Array:
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    logits = logits if bias is None else logits + bias
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def _attend_by_heads(query: Array, key: Array, value: Array, bias: Array | None) -> Array:
    batch, queries, heads, width = query.shape
    parts = _parts(queries, queries * key.shape[1], _CACHED_LOGITS)

    def of_heads(x):  # [batch heads, n, width]
        return x.transpose(0, 2, 1, 3).reshape(batch * heads, x.shape[1], -1)

    @jax.checkpoint
    def attend_some(query, key, value, bias):
        # [keys, queries]: a CPU reduces over the first axis faster than over the last.
        logits = jnp.matmul(key, query.T, preferred_element_type=jnp.float32)
        logits = logits if bias is None else logits + bias.T
        # Divided after the product with the values, which is smaller than the logits.
        weights = jnp.exp(logits - jnp.max(logits, axis=0))
        out = value.T @ weights.astype(value.dtype) / jnp.sum(weights, axis=0)
        return out.T.astype(value.dtype)

    def attend_head(head):
        query, key, value, bias = head
        some = functools.partial(attend_some, key=key, value=value, bias=bias)
        return jax.lax.map(some, query.reshape(parts, -1, width)).reshape(queries, -1)

    if bias is not None:
        bias = jnp.broadcast_to(bias, (batch, heads, 1, key.shape[1])).reshape(batch * heads, 1, -1)
    out = jax.lax.map(attend_head, (of_heads(query), of_heads(key), of_heads(value), bias))
    return out.reshape(batch, heads, queries, -1).transpose(0, 2, 1, 3)


def _parts(queries: int, logits: int, most: int) -> int:
    """Into how many parts to split queries, so that each has at most so many logits."""
    parts = 1
    while logits > parts * most and queries % (2 * parts) == 0:
        parts *= 2
    return parts


def mask_bias(mask: Bool[Array, "batch keys"]) -> Float[Array, "batch 1 1 keys"]:
    """Return the logit bias that hides the keys whose mask is False."""
    return jnp.where(mask, 0.0, -1e9)[:, None, None, :].astype(jnp.float32)


def split_heads(x: Float[Array, "batch n width"], heads: int) -> Float[Array, "batch n heads d"]:
    """Split the last axis into heads."""
    return x.reshape(*x.shape[:-1], heads, -1)


class AddedKVAttention(nn.Module):
    """Residual attention whose keys and values are the text's, beside the image's own.

    `cross_norm` normalizes the text states before their projection: "group_norm" (32 groups),
    "layer_norm" or None. `only_cross` leaves the image's own keys out.
    """

    head_dim: int
    norm_groups: int
    cross_norm: str | None = None
    only_cross: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        text: Float[Array, "batch tokens states"],
        text_mask: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Add what the positions of x [B, H, W, C] gather from text and image."""
        batch, height, width, channels = x.shape
        heads = channels // self.head_dim
        text = self._normalize_text(text)
        h = nn.GroupNorm(self.norm_groups, epsilon=1e-5, dtype=self.dtype, name="group_norm")(x)
        h = h.reshape(batch, height * width, channels)

        def project(name, inputs):
            return split_heads(nn.Dense(channels, dtype=self.dtype, name=name)(inputs), heads)

        query = project("to_q", h)
        key, value = project("add_k_proj", text), project("add_v_proj", text)
        mask = jnp.ones(text.shape[:2], bool) if text_mask is None else text_mask
        if not self.only_cross:
            key = jnp.concatenate([key, project("to_k", h)], axis=1)
            value = jnp.concatenate([value, project("to_v", h)], axis=1)
            mask = jnp.pad(mask, ((0, 0), (0, h.shape[1])), constant_values=True)
        bias = None if text_mask is None else mask_bias(mask)
        out = attend(query, key, value, bias).reshape(h.shape)
        # Starts as the identity: training is then stable from the first step.
        zeros = nn.initializers.zeros
        out = nn.Dense(channels, kernel_init=zeros, dtype=self.dtype, name="to_out_0")(out)
        return x + out.reshape(x.shape)

    def _normalize_text(self, text):
        if self.cross_norm == "group_norm":
            how = {"epsilon": 1e-5, "dtype": self.dtype, "name": "norm_cross"}
            return nn.GroupNorm(CROSS_GROUPS, **how)(text)
        if self.cross_norm == "layer_norm":
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm_cross")(text)
        return text


class SelfAttention(nn.Module):
    """Residual attention of image positions to each other, with one head (the VAE's)."""

    norm_groups: int
    eps: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """[B, H, W, C] -> the same."""
        batch, height, width, channels = x.shape
        norm = nn.GroupNorm(self.norm_groups, epsilon=self.eps, dtype=self.dtype, name="group_norm")
        h = norm(x).reshape(batch, height * width, channels)

        def project(name):
            return nn.Dense(channels, dtype=self.dtype, name=name)(h)[:, :, None, :]

        out = attend(project("to_q"), project("to_k"), project("to_v"))[:, :, 0, :]
        out = nn.Dense(channels, dtype=self.dtype, name="to_out_0")(out)
        return x + out.reshape(x.shape)


class AttentionPooling(nn.Module):
    """One vector for a sequence: its mean, as a query over itself and all tokens."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        mask: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch width"]:
        """Pool x [B, T, D] over the tokens whose mask is True."""
        width = x.shape[-1]
        init = nn.initializers.normal(width**-0.5)
        position = self.param("positional_embedding", init, (1, width))
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        summary = jnp.mean(x, axis=1, keepdims=True, where=mask[..., None])
        summary = summary + position.astype(x.dtype)
        x = jnp.concatenate([summary, x], axis=1)
        mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)

        def project(name, inputs):
            return split_heads(nn.Dense(width, dtype=self.dtype, name=name)(inputs), self.heads)

        query, key, value = project("q_proj", summary), project("k_proj", x), project("v_proj", x)
        return attend(query, key, value, mask_bias(mask)).reshape(x.shape[0], width)


class TextTimeEmbedding(nn.Module):
    """Pooled text as a vector that is added to the time embedding."""

    width: int
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        text: Float[Array, "batch tokens states"],
        mask: Bool[Array, "batch tokens"] | None = None,
    ) -> Float[Array, "batch width"]:
        """Map text states [B, T, D] to [B, width]."""
        h = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm1")(text)
        h = AttentionPooling(self.heads, dtype=self.dtype, name="pool")(h, mask)
        h = nn.Dense(self.width, dtype=self.dtype, name="proj")(h)
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm2")(h)
