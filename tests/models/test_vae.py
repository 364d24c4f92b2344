import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.models.vae import vae_from_config
from dreamfusion_jax.pretrained.convert import from_pretrained

GOLDEN = Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(GOLDEN))
from make_networks import VAE, named_array  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [("encode", "image", "encoded"), ("decode", "latent", "decoded")],
)
def test_equals_diffusers(method, given, expected):
    golden = np.load(GOLDEN / "networks.npz")
    pairs = (str(n).split(":") for n in golden["vae/names"])
    params = from_pretrained((n, named_array(n, tuple(map(int, s.split(","))))) for n, s in pairs)
    vae = vae_from_config(VAE)
    assert vae.factor == 4
    apply = jax.jit(lambda x: vae.apply({"params": params}, x, method=method))
    out, true = np.asarray(apply(golden[f"vae/{given}"])), golden[f"vae/{expected}"]
    difference = np.abs(out - true).max() / true.std()
    print(f"VAE, {method}: max difference {difference:.2e} of the output's std")
    assert difference < 2e-4


def test_published_size():
    """Stable Diffusion's: 84 million parameters."""
    sizes = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
    vae = vae_from_config(sizes)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    assert sum(np.prod(s.shape) for s in jax.tree.leaves(shapes)) == 83_653_863


def test_other_blocks_are_refused():
    with pytest.raises(UserError, match="AttnDownEncoderBlock2D"):
        vae_from_config({"down_block_types": ["AttnDownEncoderBlock2D"]})
