import jax.numpy as jnp
import numpy as np

from dreamfusion_jax.diffusion.weights import load_params, save_params


def test_safetensors_round_trip(tmp_path):
    params = {"a": {"kernel": jnp.linspace(-1, 1, 7)}, "b": jnp.arange(3.0)}
    save_params(tmp_path / "m.safetensors", params, jnp.bfloat16)
    again = load_params(tmp_path / "m.safetensors", like=params)
    assert again["a"]["kernel"].dtype == jnp.float32
    np.testing.assert_allclose(again["a"]["kernel"], params["a"]["kernel"], rtol=2**-8)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
