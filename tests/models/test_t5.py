import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.models.t5 import T5Encoder, relative_position_bucket, t5_from_config
from dreamfusion_jax.pretrained.convert import from_pretrained

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_networks import T5, named_array  # noqa: E402


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "networks.npz")


def test_equals_transformers(golden):
    pairs = (str(n).split(":") for n in golden["t5/names"])
    params = from_pretrained((n, named_array(n, tuple(map(int, s.split(","))))) for n, s in pairs)
    tokens, mask = golden["t5/tokens"].astype(np.int32), golden["t5/mask"]
    out = np.asarray(jax.jit(t5_from_config(T5).apply)({"params": params}, tokens, mask))
    # States of padding are compared too: they are computed, only not attended to.
    difference = np.abs(out - golden["t5/out"]).max() / golden["t5/out"].std()
    print(f"T5: max difference {difference:.2e} of the output's std")
    assert difference < 2e-4


def test_buckets_match_their_definition():
    relative = np.arange(-40, 41)
    bucket = relative_position_bucket(relative, 32, 20)
    assert bucket.min() == 0 and bucket.max() == 31
    np.testing.assert_array_equal(bucket[relative == 3], [19])  # behind 0-15, ahead 16-31
    np.testing.assert_array_equal(bucket[relative == -3], [3])
    assert np.all(np.diff(bucket[relative <= 0]) <= 0)  # never falls with the distance
    assert np.all(bucket[np.abs(relative) >= 20] % 16 == 15)


def test_xxl_has_the_published_size():
    """DeepFloyd IF's encoder: T5 v1.1 XXL, 4.76 billion parameters."""
    args = jnp.zeros((1, 77), jnp.int32), jnp.ones((1, 77), bool)
    shapes = jax.eval_shape(T5Encoder().init, jax.random.key(0), *args)
    count = sum(np.prod(s.shape) for s in jax.tree.leaves(shapes))
    assert 4.7e9 < count < 4.8e9


def test_old_t5_is_refused():
    with pytest.raises(UserError, match="feed_forward_proj"):
        t5_from_config(T5 | {"feed_forward_proj": "relu"})
