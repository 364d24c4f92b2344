import functools
import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]

IF_UNET = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "attention_head_dim": 16,
    "cross_attention_dim": 64,
    "encoder_hid_dim": 32,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_heads": 4,
    "vocab_size": 96,
}
SD_UNET = {
    "sample_size": 8,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
    "cross_attention_dim": 32,
}
SD_VAE = {
    "block_out_channels": [32, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}
CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "vocab_size": 1000,
}


@pytest.fixture(scope="session")
def maker():
    path = ROOT / "launch" / "make_model_folder.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_if(maker):
    return functools.partial(maker.write_if, unet=IF_UNET, text_encoder=T5)


@pytest.fixture(scope="session")
def if_folder(write_if, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "IF"
    write_if(folder, dtype="float32", shard_bytes=100_000)
    return folder


@pytest.fixture(scope="session")
def sd_settings():
    return SD_UNET, SD_VAE, CLIP


@pytest.fixture(scope="session")
def sd_folder(maker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "SD"
    maker.write_stable_diffusion(folder, SD_UNET, SD_VAE, CLIP, dtype="float32")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMFUSION_CACHE", str(tmp_path / "cache"))
