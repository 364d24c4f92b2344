"""Makes unet_t5.npz: inputs and outputs of small diffusers and transformers models.

Run once, with torch, diffusers and transformers installed: `python make_unet_t5.py`. The
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
    size, tokens = config["sample_size"], 5
    width = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    x = rng.standard_normal((2, 3, size, size)).astype(np.float32)
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


def _names(model):
    return np.array([f"{n}:{','.join(map(str, p.shape))}" for n, p in model.named_parameters()])


def main():
    """Writes unet_t5.npz beside this file."""
    import torch
    import transformers
    from diffusers import UNet2DConditionModel

    arrays = {}
    for name, config in UNETS.items():
        _unet(name, config, arrays)
        arrays[f"{name}/names"] = _names(UNet2DConditionModel(**config))
    config = transformers.T5Config(**T5, attn_implementation="eager")
    model = _fill(transformers.T5EncoderModel(config))
    rng = np.random.default_rng(11)
    tokens = rng.integers(0, T5["vocab_size"], (2, 30))
    mask = np.arange(30)[None, :] < np.array([[30], [17]])
    with torch.no_grad():
        out = model(torch.from_numpy(tokens), torch.from_numpy(mask.astype(np.int64)))
    arrays |= {"t5/tokens": tokens, "t5/mask": mask, "t5/names": _names(model)}
    arrays["t5/out"] = out.last_hidden_state.numpy()
    np.savez_compressed(pathlib.Path(__file__).with_name("unet_t5.npz"), **arrays)


if __name__ == "__main__":
    main()
