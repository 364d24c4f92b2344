"""Encoded prompts that are kept on disk."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.pretrained.embedding_cache import EmbeddingCache, file_digest


def test_damaged_states_are_not_taken(tmp_path):
    cache = EmbeddingCache("model", tmp_path)
    states = jnp.arange(60.0, dtype=jnp.bfloat16).reshape(5, 12)
    cache.put("a cat", states)
    np.testing.assert_array_equal(cache.get("a cat"), states)
    assert cache.get("a dog") is None
    (file,) = (tmp_path / "embeddings" / "model").iterdir()
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        found = cache.get("a cat")
        assert found is None or (found == states).all()


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DREAMFUSION_CACHE", str(tmp_path / "cache"))


def test_a_digest_is_that_of_the_whole_file(own_cache, tmp_path):
    path = tmp_path / "model.safetensors"
    data = bytearray(100_000)
    path.write_bytes(data)
    first = file_digest(path)
    assert file_digest(path) == first
    data[77_777] = 1  # one number of a fine-tune
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert file_digest(path) != first
    (remembered,) = (tmp_path / "cache" / "digests").iterdir()
    remembered.write_text("nonsense")
    assert file_digest(path) != first
