"""Models written by diffusers and transformers themselves, and what these make of them.

RunStore where torch, diffusers and transformers are installed.
"""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.pretrained_prior import load_pretrained
from dreamfusion_jax.pretrained.tokenizers import load_hf_tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "golden"))
from make_tokenizers import train_both  # noqa: E402
from odd_strings import odd_strings  # noqa: E402

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

STEPS = np.array([3, 871])


def difference(ours, theirs) -> float:
    theirs = theirs.detach().numpy()
    return float(np.abs(np.asarray(ours) - theirs).max() / theirs.std())


def first(array):
    return torch.from_numpy(np.asarray(array).transpose(0, 3, 1, 2).copy())


def last(tensor):
    return tensor.permute(0, 2, 3, 1)


def write(folder, unet, text_encoder, scheduler, vae=None):
    unet.save_pretrained(folder / "unet")
    text_encoder.save_pretrained(folder / "text_encoder")
    scheduler.save_pretrained(folder / "scheduler")
    if vae is not None:
        vae.save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline"}))


def test_deepfloyd(maker, write_if, tmp_path):
    torch.manual_seed(0)
    unet_config, text_config = write_if.keywords["unet"], write_if.keywords["text_encoder"]
    unet = diffusers.UNet2DConditionModel(**unet_config).eval()
    text_encoder = transformers.T5EncoderModel(
        transformers.T5Config(**text_config, feed_forward_proj="gated-gelu")
    ).eval()
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True
    )
    write(tmp_path, unet, text_encoder, scheduler)
    maker.write_sentencepiece(tmp_path / "tokenizer" / "spiece.model")
    prior = load_pretrained(tmp_path)

    prompts = ["a photo of the chair", ""]
    rows = prior.encode(prompts)
    ids, mask = prior.text.tokenizer(prompts, 77)
    with torch.no_grad():
        states = text_encoder(torch.from_numpy(ids).long(), torch.from_numpy(mask).long())[0]
        z = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
        eps = unet(first(z), torch.from_numpy(STEPS), states).sample[:, :3]
    assert difference(rows.states, states) < 2e-4
    found = jax.jit(prior.eps_hat)(prior.params, z, jnp.asarray(STEPS / 999), rows)
    assert difference(found, last(eps)) < 2e-4
    check_schedule(prior, scheduler)


@pytest.mark.parametrize(
    ("prediction", "size"), [("epsilon", 8), ("v_prediction", 8), ("epsilon", 9)]
)
def test_stable_diffusion(maker, sd_settings, tmp_path, prediction, size):
    torch.manual_seed(0)
    unet_config, vae_config, text_config = sd_settings
    unet_config = unet_config | {"sample_size": size}
    if prediction == "v_prediction":  # as Stable Diffusion 2.1 with 768 pixels
        heads = {"attention_head_dim": [2, 4], "use_linear_projection": True}
        unet_config = unet_config | heads | {"upcast_attention": True}
        text_config = text_config | {"hidden_act": "gelu"}
    unet = diffusers.UNet2DConditionModel(**unet_config).eval()
    vae = diffusers.AutoencoderKL(**vae_config).eval()
    text_encoder = transformers.CLIPTextModel(transformers.CLIPTextConfig(**text_config)).eval()
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
    )
    write(tmp_path, unet, text_encoder, scheduler, vae)
    maker.write_byte_pairs(tmp_path / "tokenizer", maker.TEXT.split())
    prior = load_pretrained(tmp_path)

    rng, prompts = np.random.default_rng(0), ["a photo of the chair", ""]
    rows = prior.encode(prompts)
    ids, _ = prior.text.tokenizer(prompts, text_config["max_position_embeddings"])
    z = rng.standard_normal((2, size, size, 4)).astype(np.float32)
    image = rng.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        states = text_encoder(torch.from_numpy(ids).long()).last_hidden_state
        out = unet(first(z), torch.from_numpy(STEPS), states).sample
        encoded = vae.encode(first(image)).latent_dist.mean * vae.config.scaling_factor
        decoded = vae.decode(first(z) / vae.config.scaling_factor).sample
    assert difference(rows.states, states) < 2e-4
    if prediction == "v_prediction":
        alpha_bar = scheduler.alphas_cumprod[STEPS][:, None, None, None]
        out = alpha_bar.sqrt() * out + (1 - alpha_bar).sqrt() * first(z)
    found = jax.jit(prior.eps_hat)(prior.params, z, jnp.asarray(STEPS / 999), rows)
    assert difference(found, last(out)) < 2e-4
    assert difference(prior.to_latents(prior.params, jnp.asarray(image)), last(encoded)) < 2e-4
    assert difference(prior.to_images(prior.params, jnp.asarray(z)), last(decoded)) < 2e-4
    check_schedule(prior, scheduler)


def check_schedule(prior, scheduler):
    alpha, sigma = prior.schedule.alpha_sigma(jnp.arange(1000) / 999)
    np.testing.assert_allclose(alpha**2, scheduler.alphas_cumprod, atol=1e-6)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)


def test_tokenizers_agree_on_odd_strings(tmp_path):
    strings = odd_strings()
    train_both(tmp_path)
    clip = transformers.CLIPTokenizer.from_pretrained(tmp_path / "clip")
    t5 = transformers.T5Tokenizer.from_pretrained(tmp_path / "t5", extra_ids=0)
    for kind, theirs in (("clip", clip), ("t5", t5)):
        ours = load_hf_tokenizer(tmp_path / kind, kind)
        wrong = [s for s in strings if ours.ids(s) != theirs(s)["input_ids"]]
        assert not wrong, [(s, ours.ids(s), theirs(s)["input_ids"]) for s in wrong[:5]]
        # The same from the one file that newer versions write.
        theirs.save_pretrained(tmp_path / f"{kind}-json")
        again = load_hf_tokenizer(tmp_path / f"{kind}-json", kind)
        assert all(again.ids(s) == ours.ids(s) for s in strings)
