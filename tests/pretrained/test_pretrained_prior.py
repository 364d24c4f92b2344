import dataclasses
import json
import shutil

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from dreamfusion_jax.diffusion.load import load_prior
from dreamfusion_jax.diffusion.pretrained_prior import load_pretrained, vae_name
from dreamfusion_jax.diffusion.prior import Prior, encode_rows
from dreamfusion_jax.diffusion.samplers import sample
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.guidance import sds_gradient
from dreamfusion_jax.models.unet import UNet
from dreamfusion_jax.pretrained import memory
from dreamfusion_jax.types import Conditioning

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def if_prior(if_folder):
    return load_prior(str(if_folder))


@pytest.fixture(scope="module")
def sd_prior(sd_folder):
    return load_prior(str(sd_folder))


def test_deepfloyd_fulfills_the_protocol(if_prior):
    prior = if_prior
    assert isinstance(prior, Prior)
    assert prior.image_shape == prior.latent_shape == (8, 8, 3)
    rows = prior.encode(["A chair", "a chair ", ""])
    assert rows.states.shape == (3, 77, 32)
    # IF reads lower case, without space around it.
    np.testing.assert_array_equal(rows.states[0], rows.states[1])
    z, t = jnp.ones((2, 8, 8, 3)), jnp.array([0.1, 0.9])
    take = jax.tree.map(lambda a: a[1:], rows)
    eps = jax.jit(prior.eps_hat)(prior.params, z, t, take)
    assert eps.shape == z.shape and bool(jnp.isfinite(eps).all()) and float(eps.std()) > 1e-3
    rows = encode_rows(prior, positive=["a chair "], empty=[""])
    drawn = sample(prior, prior.params, jax.random.key(0), rows, steps=2)
    assert drawn.shape == (1, 8, 8, 3) and float(jnp.abs(drawn).max()) < 3
    assert prior.to_latents(prior.params, z) is z and prior.unknown_words("xyz") == []


def test_stable_diffusion_fulfills_the_protocol(sd_prior):
    prior = sd_prior
    assert isinstance(prior, Prior)
    assert prior.image_shape == (16, 16, 3) and prior.latent_shape == (8, 8, 4)
    rows = encode_rows(prior, positive=["a chair"], empty=[""])
    image = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3), minval=-1.0)
    latents = prior.to_latents(prior.params, image)
    assert latents.shape == (1, 8, 8, 4)
    assert prior.to_images(prior.params, latents).shape == image.shape
    gradient, _ = sds_gradient(prior, prior.params, image, rows, jax.random.key(1))
    assert gradient.shape == image.shape
    # It is the latents' gradient through the Jacobian of the encoder.
    direct, _ = sds_gradient(prior, prior.params, latents, rows, jax.random.key(1))
    assert direct.shape == latents.shape
    encode = lambda x: prior.to_latents(prior.params, x)  # noqa: E731
    (through,) = jax.vjp(encode, image)[1](direct)
    np.testing.assert_allclose(gradient, through, atol=1e-4 * float(jnp.abs(through).max()))
    drawn = sample(prior, prior.params, jax.random.key(0), rows, steps=2, percentile=None)
    assert prior.to_images(prior.params, drawn).shape == (1, 16, 16, 3)


def alpha_and_sigma(step):
    """Of Stable Diffusion's noise schedule, from its definition."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha_bar = np.prod(1 - betas[: step + 1])
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


@pytest.fixture
def network_says(monkeypatch):
    """Makes every UNet say the same; returns the steps that it is asked at."""
    steps = []

    def install(out):
        def apply(self, variables, z, asked, states):
            steps.append(float(asked[0]))
            return out

        monkeypatch.setattr(UNet, "apply", apply)
        return steps

    return install


NO_TEXT = Conditioning(jnp.zeros((1, 1, 32)), jnp.ones((1, 1), bool))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_what_the_network_predicts_becomes_the_noise(sd_folder, tmp_path, network_says, kind):
    folder = shutil.copytree(sd_folder, tmp_path / "SD")
    change(folder / "scheduler" / "scheduler_config.json", prediction_type=kind)
    z, out = jax.random.normal(jax.random.key(0), (2, 1, 8, 8, 4))
    prior, steps = load_pretrained(folder), network_says(out)
    eps = prior.eps_hat({"unet": {}}, z, jnp.array([700 / 999]), NO_TEXT)
    assert steps == [pytest.approx(700, abs=1e-3)]
    alpha, sigma = alpha_and_sigma(700)
    expected = {
        "epsilon": out,
        "v_prediction": sigma * z + alpha * out,
        "sample": (z - alpha * out) / sigma,
    }
    np.testing.assert_allclose(eps, expected[kind], atol=1e-3)


def test_a_learned_variance_is_left_out(if_folder, network_says):
    z, mean, variance = jax.random.normal(jax.random.key(0), (3, 1, 8, 8, 3))
    out = jnp.concatenate([mean, variance], axis=-1)
    prior = load_pretrained(if_folder)
    network_says(out)
    eps = prior.eps_hat({"unet": {}}, z, jnp.array([0.5]), NO_TEXT)
    np.testing.assert_array_equal(eps, mean)


def test_models_that_see_more_than_latents_are_refused(sd_folder, tmp_path):
    folder = shutil.copytree(sd_folder, tmp_path / "inpainting")
    change(folder / "unet" / "config.json", in_channels=9)
    with pytest.raises(UserError, match="takes 9 channels.* has 4 .models for inpainting"):
        load_pretrained(folder)


def test_dtypes_files_and_shards_give_the_same_model(write_if, if_folder, if_prior, tmp_path):
    """bfloat16 from half-precision shards, next to float32 from its own."""
    folder = shutil.copytree(if_folder, tmp_path / "IF")
    write_if(folder, dtype="float16", variant="fp16", shard_bytes=1e5)
    half = load_prior(str(folder), dtype="bfloat16")
    leaves = jax.tree.leaves(half.params)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}
    for a, b in zip(leaves, jax.tree.leaves(if_prior.params), strict=True):
        np.testing.assert_allclose(a.astype(np.float32), b, rtol=2**-7, atol=1e-6)
    rows, whole = (prior.encode(["a chair", ""]) for prior in (half, if_prior))
    assert rows.states.dtype == jnp.bfloat16
    z, t = jax.random.normal(jax.random.key(0), (2, 8, 8, 3)), jnp.array([0.2, 0.8])
    eps = [jax.jit(p.eps_hat)(p.params, z, t, r) for p, r in ((half, rows), (if_prior, whole))]
    assert float(jnp.abs(eps[0] - eps[1]).mean() / eps[1].std()) < 0.03


def test_a_text_is_encoded_once(if_folder):
    first = load_pretrained(if_folder).encode(["a table, front view", ""])

    def refuse(ids, mask):
        raise AssertionError("the text encoder is used again")

    reader = dataclasses.replace(load_pretrained(if_folder).text, encode_ids=refuse)
    again = reader.encode(["", "a table, front view"])
    np.testing.assert_array_equal(again.states, first.states[::-1])


def test_other_weights_have_their_own_texts(if_folder, tmp_path):
    folder = shutil.copytree(if_folder, tmp_path / "IF")
    before = load_pretrained(folder).encode([""])
    (path, *_) = sorted((folder / "text_encoder").glob("*.safetensors"))
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({n: 1.5 * a for n, a in tensors.items()}, path)
    after = load_pretrained(folder).encode([""])
    assert float(jnp.abs(before.states - after.states).max()) > 1e-3


def test_the_old_names_of_the_vae_are_read(sd_folder, sd_prior, tmp_path):
    folder = shutil.copytree(sd_folder, tmp_path / "SD")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        for new, former in old.items():
            if "attentions" in name:
                name = name.replace(f".{new}.", f".{former}.")
        return name

    tensors = safetensors.numpy.load_file(path)
    assert any(renamed(n) != n for n in tensors) and all(vae_name(renamed(n)) == n for n in tensors)
    safetensors.numpy.save_file({renamed(n): a for n, a in tensors.items()}, path)
    again = load_pretrained(folder).params["vae"]
    jax.tree.map(np.testing.assert_array_equal, again, sd_prior.params["vae"])


@pytest.fixture
def copy(if_folder, tmp_path):
    return shutil.copytree(if_folder, tmp_path / "copy")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("unet/config.json", {"layers_per_block": 2}, "do not fit the config.json .*they lack"),
        ("unet/config.json", {"cross_attention_dim": 32}, "have in another shape"),
        ("unet/config.json", {"in_channels": 4}, "takes 4 channels, and what it would see has 3"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        ("text_encoder/config.json", {"num_layers": 4}, "do not fit .*block.3"),
        ("text_encoder/config.json", {"feed_forward_proj": "relu"}, "only T5 v1.1"),
        ("text_encoder/config.json", {"model_type": "bert"}, "of the kind 'bert'"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "'sigmoid'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "'flow'"),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMScheduler"}, "EDMScheduler"),
    ],
)
def test_configs_that_do_not_fit_are_named(copy, file, values, message):
    change(copy / file, **values)
    with pytest.raises(UserError, match=message):
        load_pretrained(copy)


def test_missing_parts_are_named(copy):
    (copy / "tokenizer" / "spiece.model").unlink()
    with pytest.raises(UserError, match="neither spiece.model nor tokenizer.json"):
        load_pretrained(copy)
    (copy / "tokenizer" / "spiece.model").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="damaged"):
        load_pretrained(copy)
    shutil.rmtree(copy / "text_encoder")
    with pytest.raises(UserError, match="not a whole model: text_encoder"):
        load_pretrained(copy)


def test_too_little_memory_is_said_before_reading(if_folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 100_000)
    with pytest.raises(UserError, match=r"IF takes 0\.\d GB, but only 0.0 GB"):
        load_pretrained(if_folder)
    assert memory._free_host_bytes() > 1e8


def test_unknown_dtypes_are_refused(if_folder):
    with pytest.raises(UserError, match="prior.dtype is 'int8'"):
        load_prior(str(if_folder), dtype="int8")


def test_names_are_turned_back(if_prior):
    from dreamfusion_jax.pretrained.convert import flax_path, pretrained_name

    for path, leaf in flax.traverse_util.flatten_dict(if_prior.params["unet"]).items():
        assert flax_path(pretrained_name(path), leaf.ndim) == path
