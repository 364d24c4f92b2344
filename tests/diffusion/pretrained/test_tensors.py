import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax
import safetensors.numpy

from dreamfusion_jax.diffusion.pretrained.tensors import Tensors
from dreamfusion_jax.errors import UserError


def test_reads_what_the_library_writes(tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    rng = np.random.default_rng(0)
    arrays = {
        "half": rng.standard_normal((3, 5)).astype(np.float16),
        "whole": rng.standard_normal(7).astype(np.float32),
        "ids": np.arange(6).reshape(1, 6),
        "none": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    safetensors.numpy.save_file(arrays, first, metadata={"format": "pt"})
    safetensors.flax.save_file({"brain": jnp.arange(4, dtype=jnp.bfloat16)}, second)
    tensors = Tensors([first, second])
    assert set(tensors) == {*arrays, "brain"} and len(tensors) == 6
    for name, array in arrays.items():
        assert tensors[name].dtype == array.dtype and tensors.shapes[name] == array.shape
        np.testing.assert_array_equal(tensors[name], array)
    assert tensors["brain"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(tensors["brain"].astype(np.float32), [0, 1, 2, 3])


def damaged(header, data=b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "header is cut off"),
        (b"\x80\x04\x95 a pickle ", "header is cut off"),
        (damaged(b"{no json"), "header cannot be read"),
        (damaged([1]), "holds a list"),
        (damaged({"w": GOOD}, b"\0" * 4), "ends before the tensor 'w'"),
        (damaged({"w": GOOD | {"shape": [3]}}), "another size"),
        (damaged({"w": GOOD | {"dtype": "Q4"}}), "can be read of 'w'"),
        (damaged({"w": {"dtype": "F32"}}), "can be read of 'w'"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, told):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        Tensors([path])
    assert str(path) in str(caught.value)


def test_missing_files_and_doubled_names(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Tensors([tmp_path / "w.safetensors"])
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        path.write_bytes(damaged({"w": GOOD}))
    with pytest.raises(UserError, match="both hold the tensor 'w'"):
        Tensors(paths)
