import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.models.t5 import t5_from_config
from dreamfusion_jax.pretrained import text_encoders
from dreamfusion_jax.pretrained.convert import from_pretrained
from dreamfusion_jax.pretrained.folder import ModelFolder


@pytest.mark.slow
def test_streamed_layers_equal_the_whole_encoder(if_folder, monkeypatch):
    folder = ModelFolder(if_folder)
    encoder = t5_from_config(folder.config("text_encoder"))
    tensors = folder.tensors("text_encoder", jnp.float32)
    rows = text_encoders._ROWS + 3  # more than one batch
    ids = np.random.default_rng(0).integers(0, 96, (rows, 9)).astype(np.int32)
    mask = np.arange(9) < np.arange(rows)[:, None] % 9 + 1
    params = from_pretrained(tensors.items())
    whole = jax.jit(encoder.apply)({"params": params}, ids, mask)

    layers = text_encoders._layers
    seen, most = [], 0

    def counted(*args):
        nonlocal most
        for layer in layers(*args):
            seen.append(weakref.ref(jax.tree.leaves(layer)[0]))
            most = max(most, sum(ref() is not None for ref in seen))
            yield layer
            del layer

    monkeypatch.setattr(text_encoders, "_layers", counted)
    streamed = text_encoders.stream_t5(encoder, tensors, ids, mask)
    np.testing.assert_allclose(streamed, whole, atol=2e-5)
    assert len(seen) == 3
    assert most == 1  # the next one is being read meanwhile, and is not seen here
