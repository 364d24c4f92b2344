import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_weights import load_params, save_params


def test_safetensors_round_trip(tmp_path):
    params = {"a": {"kernel": jnp.linspace(-1, 1, 7)}, "b": jnp.arange(3.0)}
    save_params(tmp_path / "m.safetensors", params, jnp.bfloat16)
    again = load_params(tmp_path / "m.safetensors", like=params)
    assert again["a"]["kernel"].dtype == jnp.float32
    np.testing.assert_allclose(again["a"]["kernel"], params["a"]["kernel"], rtol=2**-8)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o777 == 0o644  # others may read it


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        save_params(tmp_path / "missing" / "m.safetensors", {"a": jnp.zeros(3)})


def test_8_bit_weights_are_near_and_half_the_size(tmp_path):
    scales = jnp.exp(jnp.linspace(-5, 3, 96))  # channels of very different sizes
    kernel = scales * jax.random.normal(jax.random.key(0), (3, 3, 64, 96))
    params = {"conv": {"kernel": kernel, "bias": jnp.linspace(-1, 1, 96)}}
    for dtype in (jnp.bfloat16, "int8"):
        save_params(tmp_path / f"{np.dtype(dtype).name}.safetensors", params, dtype)
    again = load_params(tmp_path / "int8.safetensors", like=params)["conv"]
    error = jnp.sqrt(jnp.mean((again["kernel"] - kernel) ** 2, axis=(0, 1, 2)))
    assert float(jnp.max(error / scales)) < 0.012  # (2 max / 254) / sqrt(12), max about 4
    np.testing.assert_allclose(again["bias"], params["conv"]["bias"], rtol=2**-8)
    whole, half = ((tmp_path / f"{n}.safetensors").stat().st_size for n in ("bfloat16", "int8"))
    assert half < 0.52 * whole


@pytest.mark.parametrize("scale", ["b:scale", "conv/kernel:scale"])
def test_scales_of_no_tensor_are_a_sentence(tmp_path, scale):
    arrays = {"conv/kernel": np.ones((3, 4), np.int8), scale: np.ones(3, np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="have scales for"):
        load_params(tmp_path / "m.safetensors")
