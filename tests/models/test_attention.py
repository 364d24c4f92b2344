import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.models import attention, unet_blocks


def by_definition(query, key, value, bias, scale):
    logits = np.einsum("bqhd,bkhd->bhqk", query, key) * scale + bias
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.slow
@pytest.mark.parametrize(("most", "cached"), [(2**26, 2**21), (64, 2**21), (2**26, 32)])
def test_every_way_to_attend_is_the_same(monkeypatch, most, cached):
    """All at once, in parts, and head by head as on a CPU; values and gradients."""
    monkeypatch.setattr(attention, "MOST_LOGITS", most)
    monkeypatch.setattr(attention, "_CACHED_LOGITS", cached)
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 2, 8, 3, 4)).astype(np.float32)
    mask = jnp.asarray(np.arange(8) < np.array([[8], [5]]))
    for bias in (None, attention.mask_bias(mask)):
        given = 0.0 if bias is None else np.asarray(bias)
        expected = by_definition(query, key, value, given, 0.5)

        def loss(q, k, v, bias=bias):
            out = attention.attend(q, k, v, bias)
            return jnp.sum(jnp.sin(out)), out

        arrays = map(jnp.asarray, (query, key, value))
        (_, out), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*arrays)
        np.testing.assert_allclose(out, expected, atol=1e-5)

        def reference(q, k, v, given=given):
            logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) * 0.5 + given
            out = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), v)
            return jnp.sum(jnp.sin(out))

        true = jax.grad(reference, (0, 1, 2))(*map(jnp.asarray, (query, key, value)))
        for a, b in zip(grads, true, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_a_convolution_of_few_pixels_is_a_convolution():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((1, 4, 3, 512)), jnp.float32)
    conv = unet_blocks.conv3x3(7, "c")
    params = conv.init(jax.random.key(0), x)
    kernel = params["params"]["kernel"]
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert "dot_general" in str(jax.make_jaxpr(conv.apply)(params, x))
    np.testing.assert_allclose(conv.apply(params, x), expected, atol=1e-4)
