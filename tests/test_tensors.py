import json

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.flax
import safetensors.numpy

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.pretrained.convert import from_pretrained
from dreamfusion_jax.tensors import Tensors


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
    ("content", "message"),
    [
        (b"", "header is cut off"),
        (b"\x80\x04\x95 a pickle ", "header is cut off"),
        (damaged(b"{no json"), "header cannot be read"),
        (damaged([1]), "holds a list"),
        (damaged({"w": GOOD}, b"\0" * 4), "ends before the tensor 'w'"),
        (damaged({"w": GOOD | {"shape": [3]}}), "another size"),
        (damaged({"w": GOOD | {"dtype": "F4"}}), "the tensor 'w' as 'F4', which is not read"),
        (damaged({"w": {"dtype": "F32"}}), "can be read of 'w'"),
        (damaged({"w": [GOOD]}), "can be read of 'w'"),
        (damaged({"w": GOOD | {"shape": [2.0]}}), "can be read of 'w'"),
        (damaged({"w": GOOD | {"shape": [float("inf")]}}), "can be read of 'w'"),
        (damaged({"w": GOOD | {"shape": [10**12, 10**12]}}), "can be read of 'w'"),
        (damaged({"w": GOOD | {"shape": [1] * 100_000}}), "can be read of 'w'"),
        (damaged({"w": GOOD | {"data_offsets": [-8, 0]}}), "can be read of 'w'"),
        (damaged({"w": GOOD | {"data_offsets": [4, 12]}}, b"\0" * 12), "begin where another ends"),
        (damaged({"v": GOOD, "w": GOOD}), "'w' does not begin where another ends"),
        (damaged({"w": GOOD}, b"\0" * 9), "holds more than its header says"),
        (damaged({"w" * 10_000: GOOD}, b""), "'wwww"),
        (damaged(b"[" * 100_000), "nested too deeply"),
        (damaged(b'{"w":' + b"9" * 5000 + b"}"), "header cannot be read"),
        (damaged(b" " * (2**23 + 1)), "its header has 8,388,609 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Tensors([path])
    assert str(path) in str(caught.value) and len(str(caught.value)) < 600


def test_a_name_that_a_header_has_twice_is_refused(tmp_path):
    described = [json.dumps(GOOD | {"data_offsets": [i, i + 8]}) for i in (0, 8)]
    path = tmp_path / "w.safetensors"
    path.write_bytes(damaged(f'{{"w": {described[0]}, "w": {described[1]}}}'.encode(), b"\0" * 16))
    with pytest.raises(UserError, match="does not begin where another ends"):
        Tensors([path])


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_floats_of_8_bits_are_read(tmp_path, dtype):
    array = np.array([[0.5, -1.75, 448.0], [0.0, 2**-6, 96.0]], dtype)
    safetensors.flax.save_file({"w.weight": jnp.asarray(array)}, tmp_path / "w.safetensors")
    tensors = Tensors([tmp_path / "w.safetensors"])
    assert tensors["w.weight"].dtype == dtype
    for wanted in (jnp.float32, jnp.bfloat16):
        kernel = from_pretrained(tensors.items(), wanted)["w"]["kernel"]
        assert kernel.dtype == wanted
        np.testing.assert_array_equal(kernel.T.astype(np.float32), array.astype(np.float32))


def eight_bits(layout=0):
    """As bitsandbytes stores a matrix: rows in units of a 127th of their largest value."""
    matrix = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    scale = np.abs(matrix).max(axis=1)
    whole = np.round(matrix / scale[:, None] * 127).astype(np.int8)
    stored = {"a.q.weight": whole, "a.q.SCB": scale, "a.norm.weight": np.ones(6, np.float16)}
    return matrix, stored | {"a.q.weight_format": np.array(layout, np.uint8)}


def test_matrices_of_8_bits_are_read(tmp_path):
    matrix, stored = eight_bits()
    safetensors.numpy.save_file(stored, tmp_path / "w.safetensors")
    tensors = Tensors([tmp_path / "w.safetensors"])
    assert tensors.shapes == {"a.q.weight": (4, 6), "a.norm.weight": (6,)}
    error = np.abs(tensors["a.q.weight"] - matrix) / np.abs(matrix).max(axis=1)[:, None]
    assert error.max() < 0.501 / 127


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.q.weight_format": np.array(2, np.uint8)}, "in the layout of one GPU"),
        ({"a.q.SCB": np.ones(3, np.float32)}, "scales, but of no matrix"),
        ({"a.q.weight": np.ones((4, 6), np.float16)}, "scales, but of no matrix"),
        ({"b.SCB": np.ones(4, np.float32)}, "'b.SCB' are scales, but of no matrix"),
    ],
)
def test_other_8_bits_are_refused(tmp_path, change, message):
    safetensors.numpy.save_file(eight_bits()[1] | change, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=message):
        Tensors([tmp_path / "w.safetensors"])


def test_missing_files_and_doubled_names(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Tensors([tmp_path / "w.safetensors"])
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        path.write_bytes(damaged({"w": GOOD}))
    with pytest.raises(UserError, match="both hold the tensor 'w'"):
        Tensors(paths)
