"""The T5 v1.1 text encoder: gated GELU, relative positions, RMS norms, no biases.

Google's T5 encoders (DeepFloyd IF reads T5 v1.1 XXL) and the embedded model's small one are
instances of it. Submodule names follow transformers' T5EncoderModel.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import check_fields, number, shown, whole


def relative_position_bucket(
    relative: Int[np.ndarray, "*shape"], buckets: int, max_distance: int
) -> Int[np.ndarray, "*shape"]:
    """Return buckets of (key position - query position), both directions (Raffel et al. 2020).

    Half of the buckets are for keys behind the query; of each half, half are single
    distances and the rest grow logarithmically up to `max_distance`.
    """
    half = buckets // 2
    exact = half // 2
    distance = np.abs(relative)
    # f32 like the original: a bucket boundary may fall on the other side in f64.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    far = exact + ratio / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum(far.astype(np.int32), half - 1)
    return np.where(relative > 0, half, 0) + np.where(distance < exact, distance, far)


class RMSNorm(nn.Module):
    """Scales by the root of the mean square; no centering, no bias."""

    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """[..., D] -> the same; the statistics are f32."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        power = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(power + self.eps) * scale).astype(self.dtype)


class AttentionShape(NamedTuple):
    """Heads, their width, and the position buckets with the distance where they end."""

    heads: int
    head_dim: int
    buckets: int
    max_distance: int


class T5Attention(nn.Module):
    """Self-attention without scaling of the logits; the first layer owns the position bias."""

    shape: AttentionShape
    owns_bias: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        bias: Float[Array, "#batch #heads #tokens tokens"],
    ) -> tuple[Float[Array, "batch tokens width"], Float[Array, "batch heads tokens tokens"]]:
        """Return the attention's output and the bias, with positions in it."""
        heads, head_dim = self.shape.heads, self.shape.head_dim
        inner = heads * head_dim

        def project(name, fan_in):
            init = nn.initializers.normal(fan_in**-0.5)
            dense = nn.Dense(inner, use_bias=False, kernel_init=init, dtype=self.dtype, name=name)
            return dense(x).reshape(*x.shape[:2], heads, head_dim)

        # Unscaled logits: T5 puts 1 / sqrt(head width) into the initial queries.
        query = project("q", x.shape[-1] * head_dim)
        key, value = project("k", x.shape[-1]), project("v", x.shape[-1])
        if self.owns_bias:
            bias = bias + self._position_bias(x.shape[1])
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits + bias, axis=-1).astype(value.dtype)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*x.shape[:2], inner)
        init = nn.initializers.normal(inner**-0.5)
        dense = nn.Dense(x.shape[-1], use_bias=False, kernel_init=init, dtype=self.dtype, name="o")
        return dense(out), bias

    def _position_bias(self, tokens):
        init = nn.initializers.normal(0.1)
        name = "relative_attention_bias"
        table = nn.Embed(self.shape.buckets, self.shape.heads, embedding_init=init, name=name)
        return position_bias(table.embedding, tokens, self.shape.max_distance)


def position_bias(
    table: Float[Array, "buckets heads"], tokens: int, max_distance: int
) -> Float[Array, "1 heads tokens tokens"]:
    """Return what is added to the logits of each query and key for their distance."""
    position = np.arange(tokens)
    relative = position[None, :] - position[:, None]
    index = relative_position_bucket(relative, table.shape[0], max_distance)
    return table[jnp.asarray(index)].transpose(2, 0, 1)[None].astype(jnp.float32)


def mask_bias(mask: Bool[Array, "batch tokens"]) -> Float[Array, "batch 1 1 tokens"]:
    """Return what hides the tokens whose mask is False."""
    return jnp.where(mask, 0.0, -1e9)[:, None, None, :].astype(jnp.float32)


class T5SelfAttentionLayer(nn.Module):
    """Norm, attention, residual."""

    shape: AttentionShape
    owns_bias: bool
    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], bias: Float[Array, "#batch #h #tokens tokens"]
    ) -> tuple[Float[Array, "batch tokens width"], Float[Array, "batch heads tokens tokens"]]:
        """[B, T, D] and the bias -> the same."""
        h = RMSNorm(self.eps, self.dtype, name="layer_norm")(x)
        attention = T5Attention(self.shape, self.owns_bias, self.dtype, name="SelfAttention")
        h, bias = attention(h, bias)
        return x + h, bias


class GatedGelu(nn.Module):
    """wo(gelu(wi_0 x) * wi_1 x), the tanh form of GELU."""

    hidden: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """[..., D] -> the same."""

        def dense(features, name, fan_in):
            init = nn.initializers.normal(fan_in**-0.5)
            return nn.Dense(features, use_bias=False, kernel_init=init, dtype=self.dtype, name=name)

        width = x.shape[-1]
        gate = jax.nn.gelu(dense(self.hidden, "wi_0", width)(x), approximate=True)
        return dense(width, "wo", self.hidden)(gate * dense(self.hidden, "wi_1", width)(x))


class T5FeedForwardLayer(nn.Module):
    """Norm, gated feed-forward, residual."""

    hidden: int
    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch tokens width"]:
        """[B, T, D] -> the same."""
        h = RMSNorm(self.eps, self.dtype, name="layer_norm")(x)
        return x + GatedGelu(self.hidden, self.dtype, name="DenseReluDense")(h)


class T5Block(nn.Module):
    """One layer of the encoder: self-attention, then feed-forward."""

    shape: AttentionShape
    owns_bias: bool
    hidden: int
    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], bias: Float[Array, "#batch #h #tokens tokens"]
    ) -> tuple[Float[Array, "batch tokens width"], Float[Array, "batch heads tokens tokens"]]:
        """[B, T, D] and the attention bias -> the same."""
        layer = T5SelfAttentionLayer(
            self.shape, self.owns_bias, self.eps, self.dtype, name="layer_0"
        )
        x, bias = layer(x, bias)
        return T5FeedForwardLayer(self.hidden, self.eps, self.dtype, name="layer_1")(x), bias


class T5Stack(nn.Module):
    """The blocks and the final norm; the position bias of block 0 serves all of them."""

    num_layers: int
    shape: AttentionShape
    hidden: int
    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], mask: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch tokens width"]:
        """Return embedded tokens [B, T, D] -> states [B, T, D]."""
        bias = mask_bias(mask)
        for i in range(self.num_layers):
            block = T5Block(
                self.shape, i == 0, self.hidden, self.eps, self.dtype, name=f"block_{i}"
            )
            x, bias = block(x, bias)
        return RMSNorm(self.eps, self.dtype, name="final_layer_norm")(x)


class T5Encoder(nn.Module):
    """Token ids to text states. Fields carry the names of transformers' T5Config."""

    vocab_size: int = 32128
    d_model: int = 4096
    num_layers: int = 24
    num_heads: int = 64
    d_kv: int = 64
    d_ff: int = 10240
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch tokens"], mask: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch tokens d_model"]:
        """tokens [B, T] and a mask that is True where a token is present -> [B, T, D]."""
        init = nn.initializers.normal(1.0)
        table = nn.Embed(self.vocab_size, self.d_model, embedding_init=init, name="shared")
        stack = T5Stack(
            self.num_layers,
            self.attention_shape,
            self.d_ff,
            self.layer_norm_epsilon,
            self.dtype,
            name="encoder",
        )
        return stack(table(tokens).astype(self.dtype), mask)

    @property
    def attention_shape(self) -> AttentionShape:
        """The shape that all layers share."""
        return AttentionShape(
            self.num_heads,
            self.d_kv,
            self.relative_attention_num_buckets,
            self.relative_attention_max_distance,
        )


KINDS = {
    "vocab_size": whole(1, 2**22),
    "d_model": whole(),
    "num_layers": whole(1, 256),
    "num_heads": whole(1, 1024),
    "d_kv": whole(1, 4096),
    "d_ff": whole(1, 2**20),
    "relative_attention_num_buckets": whole(4, 4096),
    "relative_attention_max_distance": whole(2),
    "layer_norm_epsilon": number(1e-12, 1),
}


def t5_from_config(config: dict[str, Any], dtype: Any = jnp.float32) -> T5Encoder:
    """Return the encoder that transformers' T5 `config.json` (or the embedded model's) describes.

    Raises:
      UserError: it is of another kind, or its values make no sense.
    """
    where = "the text encoder's config.json"
    check_fields(config, KINDS, where)
    kind = config.get("feed_forward_proj", "gated-gelu")
    if kind != "gated-gelu":
        raise UserError(
            f"{where} has feed_forward_proj={shown(kind)}; only T5 v1.1 ('gated-gelu') is supported"
        )
    fields = {f.name for f in dataclasses.fields(T5Encoder)} - {"parent", "name", "dtype"}
    encoder = T5Encoder(**{k: v for k, v in config.items() if k in fields}, dtype=dtype)
    if encoder.relative_attention_max_distance <= encoder.relative_attention_num_buckets // 4:
        raise UserError(
            f"{where} has a relative_attention_max_distance that is too small for its "
            "relative_attention_num_buckets; fetch it again"
        )
    return encoder
