"""Writes a folder like those of published models, with random weights.

    python launch/make_model_folder.py /tmp/if --kind=if --width=192
    python launch/make_model_folder.py /tmp/clip --kind=b32
    dreamfusion generate "a chair" --config=paper --config.prior.name=/tmp/if

Sizes, files and names are those of the real models (or narrower), tokenizers are tiny; what comes
out of them is noise. It shows whether a model fits a machine, and how fast it is there, before
anything large is fetched. The tests and the benchmark read such folders too.
"""

import argparse
import io
import json
import math
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from dreamfusion_jax.diffusion.deepfloyd import if_config
from dreamfusion_jax.models.clip_text import clip_text_from_config
from dreamfusion_jax.models.t5 import t5_from_config
from dreamfusion_jax.models.unet import unet_from_config
from dreamfusion_jax.models.vae import vae_from_config
from dreamfusion_jax.pretrained.clip_folder import network_from_config
from dreamfusion_jax.pretrained.convert import flax_axes, pretrained_name

T5_XXL = {
    "model_type": "t5",
    "feed_forward_proj": "gated-gelu",
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 32128,
}
SD_UNET = {
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SD_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.18215,
}
CLIP_L = {
    "model_type": "clip_text_model",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "hidden_act": "quick_gelu",
}
CLIP_TOWERS = {  # vision: width, layers, heads, patch; text: width, layers, heads; common width
    "b32": ((768, 12, 12, 32), (512, 12, 8), 512),
    "b16": ((768, 12, 12, 16), (512, 12, 8), 512),
    "l14": ((1024, 24, 16, 14), (768, 12, 12), 768),
}
TEXT = "a photo of the chair and one table, front view side view back view overhead view"


def write_if(folder: Path, unet: dict[str, Any], text_encoder: dict[str, Any], **how: Any) -> None:
    """Return a folder like DeepFloyd IF's first stage; see `write_weights` for `how`."""
    text_encoder = T5_XXL | text_encoder
    scheduler = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}
    parts = ("unet", "text_encoder", "tokenizer", "scheduler")
    _write_index(folder, "IFPipeline", parts)
    _write_config(folder / "scheduler", "scheduler_config.json", scheduler)
    _write_config(folder / "text_encoder", "config.json", text_encoder)
    write_sentencepiece(folder / "tokenizer" / "spiece.model")
    width = text_encoder["d_model"]
    unet = {"_class_name": "UNet2DConditionModel", "sample_size": 64} | unet
    _write_unet(folder, unet, unet.get("encoder_hid_dim") or width, **how)
    tokens, mask = jnp.zeros((1, 8), jnp.int32), jnp.ones((1, 8), bool)
    shapes = _shapes(t5_from_config(text_encoder), tokens, mask)
    write_weights(folder / "text_encoder", "model", shapes, **how)


def write_stable_diffusion(
    folder: Path,
    unet: dict[str, Any],
    vae: dict[str, Any],
    text_encoder: dict[str, Any],
    **how: Any,
) -> None:
    """Return a folder like Stable Diffusion's; see `write_weights` for `how`."""
    unet, vae, text_encoder = SD_UNET | unet, SD_VAE | vae, CLIP_L | text_encoder
    scheduler = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "epsilon",
    }
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    _write_index(folder, "StableDiffusionPipeline", parts)
    _write_config(folder / "scheduler", "scheduler_config.json", scheduler)
    write_byte_pairs(folder / "tokenizer", TEXT.split())
    _write_unet(folder, unet, unet["cross_attention_dim"], **how)
    _write_config(folder / "vae", "config.json", vae)
    shapes = _shapes(vae_from_config(vae), jnp.zeros((1, 64, 64, 3)))
    write_weights(folder / "vae", "diffusion_pytorch_model", shapes, **how)
    _write_config(folder / "text_encoder", "config.json", text_encoder)
    shapes = _shapes(clip_text_from_config(text_encoder), jnp.zeros((1, 8), jnp.int32))
    write_weights(folder / "text_encoder", "model", shapes, prefix="text_model.", **how)


def clip_config(name: str) -> dict[str, Any]:
    """Return the config.json of OpenAI's CLIP ViT-B/32 ("b32"), B/16 or L/14."""
    vision, text, width = CLIP_TOWERS[name]

    def tower(width, layers, heads, **more):
        shape = {"hidden_size": width, "intermediate_size": 4 * width}
        shape |= {"num_hidden_layers": layers, "num_attention_heads": heads}
        return shape | {"hidden_act": "quick_gelu"} | more

    return {
        "model_type": "clip",
        "projection_dim": width,
        "vision_config": tower(*vision[:3], patch_size=vision[3], image_size=224),
        "text_config": tower(*text, max_position_embeddings=77, vocab_size=49408),
    }


def write_clip(folder: Path, config: dict[str, Any], **how: Any) -> None:
    """Write a folder like OpenAI's CLIP's; see `clip_config`, and `write_weights` for `how`."""
    _write_config(folder, "config.json", config)
    write_byte_pairs(folder, TEXT.split())
    texts = jnp.zeros((1, 8), jnp.int32), jnp.zeros(1, jnp.int32)
    size = config["vision_config"]["image_size"]
    shapes = _shapes(network_from_config(config), jnp.zeros((1, size, size, 3)), *texts)
    write_weights(folder, "model", shapes, **how)


def write_weights(
    folder: Path,
    stem: str,
    shapes: Any,
    *,
    prefix: str = "",
    dtype: str = "float16",
    variant: str = "",
    shard_bytes: float = math.inf,
) -> None:
    """Return random safetensors under published names, split into files of about `shard_bytes`."""
    shards, size = [[]], 0
    for path, leaf in flax.traverse_util.flatten_dict(shapes).items():
        order = flax_axes(path, len(leaf.shape))
        shape = [0] * len(order)
        for ours, theirs in enumerate(order):
            shape[theirs] = leaf.shape[ours]
        more = math.prod(shape) * jnp.dtype(dtype).itemsize
        if shards[-1] and size + more > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append((prefix + pretrained_name(path), tuple(shape)))
        size += more
    folder.mkdir(parents=True, exist_ok=True)
    dotted = f".{variant}" if variant else ""
    for i, shard in enumerate(shards, 1):
        number = f"-{i:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        tensors = dict(_random(name, shape, dtype) for name, shape in shard)
        safetensors.numpy.save_file(tensors, folder / f"{stem}{dotted}{number}.safetensors")


def write_sentencepiece(path: Path, words: str = TEXT, size: int = 64) -> None:
    """Return a tokenizer like T5's: pieces of words, <pad> 0, </s> 1, <unk> 2."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words] * 10),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())


def write_byte_pairs(folder: Path, words: list[str]) -> None:
    """Return a tokenizer like CLIP's: vocab.json and merges.txt."""
    model = models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        show_progress=False,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
    )
    tokenizer.train_from_iterator(words * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = model["vocab"]
    # Every byte can also end a word, whether it did in the training text or not.
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{byte}</w>", len(vocabulary))
    merges = [" ".join(pair) for pair in model["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    _write_config(folder, "special_tokens_map.json", {"pad_token": "<|endoftext|>"})


def _write_unet(folder: Path, config: dict[str, Any], width: int, **how: Any) -> None:
    _write_config(folder / "unet", "config.json", config)
    unet, size = unet_from_config(config), config["sample_size"]
    image = jnp.zeros((1, size, size, unet.in_channels))
    shapes = _shapes(unet, image, jnp.zeros(1), jnp.zeros((1, 8, width)))
    write_weights(folder / "unet", "diffusion_pytorch_model", shapes, **how)


def _write_index(folder: Path, pipeline: str, parts: tuple[str, ...]) -> None:
    _write_config(folder, "model_index.json", {"_class_name": pipeline} | {p: [] for p in parts})


def _shapes(module: Any, *inputs: Any) -> Any:
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


def _write_config(folder: Path, name: str, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(config, indent=1) + "\n")


def _random(name: str, shape: tuple[int, ...], dtype: str) -> tuple[str, np.ndarray]:
    """Return weights scaled by their fan-in, norms near one, seeded by the name."""
    rng = np.random.default_rng(list(name.encode()))
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
        values *= math.prod(shape[1:]) ** -0.5
    else:
        values *= 0.1
        values += name.endswith("weight")
    return name, values.astype(jnp.dtype(dtype))


def main() -> None:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("if", "sd", *CLIP_TOWERS), required=True)
    parser.add_argument(
        "--width", type=int, default=192, help="first width of IF's U-Net: 192, 320 or 704"
    )
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--shard-gb", type=float, default=2.0)
    options = parser.parse_args()
    how = {"dtype": options.dtype, "shard_bytes": options.shard_gb * 1e9}
    if options.kind in CLIP_TOWERS:
        write_clip(options.folder, clip_config(options.kind), **how)
    elif options.kind == "if":
        write_if(options.folder, if_config(options.width), {}, **how)
    else:
        write_stable_diffusion(options.folder, {}, {}, {}, **how)


if __name__ == "__main__":
    main()
