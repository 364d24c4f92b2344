"""Makes networks.npz: inputs and outputs of small diffusers and transformers models.

Run once, with torch, diffusers and transformers installed: `python make_networks.py`. The
weights are a function of each parameter's name and shape (`named_array`), so the tests make
the same ones with numpy alone, and only inputs and outputs are stored.
"""

import pathlib
import zlib

import numpy as np

UNETS = {
    "if_small": {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 6,
        "block_out_channels": (32, 64),
        "layers_per_block": 2,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "attention_head_dim": 16,
        "cross_attention_dim": 64,
        "encoder_hid_dim": 48,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 8,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
        "norm_num_groups": 8,
        "mid_block_scale_factor": 1.4142135,
    },
    "masked": {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (32,),
        "layers_per_block": 1,
        "down_block_types": ("SimpleCrossAttnDownBlock2D",),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D",),
        "attention_head_dim": 8,
        "cross_attention_dim": 32,
        "cross_attention_norm": "layer_norm",
        "resnet_time_scale_shift": "scale_shift",
        "resnet_out_scale_factor": 1.25,
        "act_fn": "silu",
        "norm_num_groups": 4,
    },
}
UNETS["cross_only"] = UNETS["masked"] | {"only_cross_attention": True}
# The published configs, but for their widths.
UNETS["if_i_xl"] = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": (32, 64, 96, 128),
    "layers_per_block": 3,
    "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    "attention_head_dim": 32,
    "cross_attention_dim": 128,
    "cross_attention_norm": "group_norm",
    "encoder_hid_dim": 48,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 8,
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
    "norm_num_groups": 32,
}
UNETS["sd_1_5"] = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 128, 128),
    "attention_head_dim": 8,
    "cross_attention_dim": 48,
}
UNETS["sd_2_1"] = UNETS["sd_1_5"] | {
    "attention_head_dim": (1, 2, 4, 4),
    "use_linear_projection": True,
    "upcast_attention": True,
    "dual_cross_attention": False,
    "only_cross_attention": False,
}
# What no published first stage uses together: time activations, another order of the time
# features, cross-attention alone, transformers of several depths.
UNETS["odd"] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("ResnetUpsampleBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (4, 16),
    "transformer_layers_per_block": (1, 2),
    "only_cross_attention": (True, False),
    "cross_attention_dim": 32,
    "resnet_time_scale_shift": "scale_shift",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1.3,
    "mid_block_scale_factor": 0.8,
    "time_embedding_act_fn": "gelu",
    "timestep_post_act": "mish",
    "time_embedding_dim": 96,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_num_groups": 8,
    "norm_eps": 1e-4,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "sample_size": 32,
    "scaling_factor": 0.18215,
}
CLIPS = {
    "clip_l": {  # Stable Diffusion 1.x
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 13,
        "hidden_act": "quick_gelu",
        "eos_token_id": 95,
    }
}
SCHEDULERS = {
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
    "scaled_linear": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    },
    "linear": {"beta_schedule": "linear", "num_train_timesteps": 500},
}
CLIPS["clip_h"] = CLIPS["clip_l"] | {"hidden_act": "gelu", "num_attention_heads": 2}
T5 = {
    "vocab_size": 96,
    "d_model": 32,
    "num_layers": 2,
    "num_heads": 4,
    "d_kv": 12,
    "d_ff": 56,
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 20,
    "feed_forward_proj": "gated-gelu",
}


def named_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Pseudo-random weights seeded by the parameter's name, scaled by its fan-in."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        return values * np.float32(np.prod(shape[1:]) ** -0.5)
    return values * np.float32(0.1) + np.float32(name.endswith("weight"))


def _fill(model):
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(named_array(name, tuple(parameter.shape))))
    return model.eval()


def _unet(name, config, arrays):
    import torch
    from diffusers import UNet2DConditionModel

    model = _fill(UNet2DConditionModel(**config))
    rng = np.random.default_rng(7)
    size, tokens, channels = config["sample_size"], 5, config.get("in_channels", 4)
    width = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    x = rng.standard_normal((2, channels, size, size)).astype(np.float32)
    text = rng.standard_normal((2, tokens, width)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    t = np.array([3, 871], np.int64)
    # diffusers' pooling knows no mask, and its cross-only attention breaks with one.
    masked = name == "masked"
    with torch.no_grad():
        out = model(
            torch.from_numpy(x),
            torch.from_numpy(t),
            torch.from_numpy(text),
            encoder_attention_mask=torch.from_numpy(mask) if masked else None,
        ).sample.numpy()
    to_last = (0, 2, 3, 1)
    arrays[f"{name}/x"], arrays[f"{name}/out"] = x.transpose(to_last), out.transpose(to_last)
    arrays[f"{name}/t"], arrays[f"{name}/text"] = t.astype(np.float32), text
    if masked:
        arrays[f"{name}/mask"] = mask


def _vae(arrays):
    import torch
    from diffusers import AutoencoderKL

    model = _fill(AutoencoderKL(**VAE))
    rng = np.random.default_rng(13)
    image = rng.uniform(-1, 1, (2, 3, 32, 32)).astype(np.float32)
    latent = rng.standard_normal((2, 4, 8, 8)).astype(np.float32)
    scale = VAE["scaling_factor"]
    with torch.no_grad():
        encoded = model.encode(torch.from_numpy(image)).latent_dist.mean * scale
        decoded = model.decode(torch.from_numpy(latent) / scale).sample
    found = {"image": image, "latent": latent}
    found |= {"encoded": encoded.numpy(), "decoded": decoded.numpy()}
    arrays |= {f"vae/{name}": array.transpose(0, 2, 3, 1) for name, array in found.items()}
    arrays["vae/names"] = _names(model)


def _clip(name, config, arrays):
    import torch
    import transformers

    config = transformers.CLIPTextConfig(**config, attn_implementation="eager")
    model = _fill(transformers.CLIPTextModel(config))
    rng = np.random.default_rng(17)
    tokens = rng.integers(0, config.vocab_size, (2, config.max_position_embeddings))
    with torch.no_grad():
        out = model(torch.from_numpy(tokens)).last_hidden_state.numpy()
    arrays |= {f"{name}/tokens": tokens, f"{name}/out": out, f"{name}/names": _names(model)}


def _names(model):
    return np.array([f"{n}:{','.join(map(str, p.shape))}" for n, p in model.named_parameters()])


def _t5(arrays):
    import torch
    import transformers

    config = transformers.T5Config(**T5, attn_implementation="eager")
    model = _fill(transformers.T5EncoderModel(config))
    rng = np.random.default_rng(11)
    tokens = rng.integers(0, T5["vocab_size"], (2, 30))
    mask = np.arange(30)[None, :] < np.array([[30], [17]])
    with torch.no_grad():
        out = model(torch.from_numpy(tokens), torch.from_numpy(mask.astype(np.int64)))
    arrays |= {"t5/tokens": tokens, "t5/mask": mask, "t5/names": _names(model)}
    arrays["t5/out"] = out.last_hidden_state.numpy()


def _schedules(arrays):
    from diffusers import DDPMScheduler

    for name, config in SCHEDULERS.items():
        found = DDPMScheduler(**config).alphas_cumprod.numpy().astype(np.float64)
        arrays[f"schedule/{name}"] = found[:: len(found) // 50]


def main():
    """Writes networks.npz beside this file."""
    from diffusers import UNet2DConditionModel

    arrays = {}
    for name, config in UNETS.items():
        _unet(name, config, arrays)
        arrays[f"{name}/names"] = _names(UNet2DConditionModel(**config))
    for name, config in CLIPS.items():
        _clip(name, config, arrays)
    _vae(arrays)
    _t5(arrays)
    _schedules(arrays)
    np.savez_compressed(pathlib.Path(__file__).with_name("networks.npz"), **arrays)


if __name__ == "__main__":
    main()
