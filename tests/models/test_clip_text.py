import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.models.clip_text import CLIPTextEncoder, clip_text_from_config
from dreamfusion_jax.pretrained.convert import from_pretrained
from dreamfusion_jax.pretrained.text_encoders import clip_name

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_networks import CLIPS, named_array  # noqa: E402


@pytest.mark.parametrize("name", CLIPS)
def test_equals_transformers(name):
    golden = np.load(GOLDEN / "networks.npz")
    pairs = (str(n).split(":") for n in golden[f"{name}/names"])
    shaped = ((n, tuple(map(int, s.split(",")))) for n, s in pairs)
    params = from_pretrained((clip_name(n), named_array(n, s)) for n, s in shaped)
    apply = jax.jit(clip_text_from_config(CLIPS[name]).apply)
    out = np.asarray(apply({"params": params}, golden[f"{name}/tokens"].astype(np.int32)))
    difference = np.abs(out - golden[f"{name}/out"]).max() / golden[f"{name}/out"].std()
    print(f"{name}: max difference {difference:.2e} of the output's std")
    assert difference < 2e-4


def test_published_size():
    """The text tower of CLIP ViT-L/14 (Stable Diffusion 1.x): 123 million parameters."""
    encoder = CLIPTextEncoder(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 77), jnp.int32))
    assert sum(np.prod(s.shape) for s in jax.tree.leaves(shapes)) == 123_060_480


def test_unknown_activations_are_refused():
    with pytest.raises(UserError, match="swiglu"):
        clip_text_from_config({"hidden_act": "swiglu"})
