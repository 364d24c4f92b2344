"""Makes clip.npz: inputs and outputs of small CLIP models of transformers and OpenCLIP.

Run once, with torch, transformers and open_clip_torch installed: `python make_clip.py`. The
weights are a function of each parameter's name and shape, see make_networks.py.
"""

import pathlib

import numpy as np
from make_networks import named_array

TEXT = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 13,
    "hidden_act": "quick_gelu",
    "eos_token_id": 95,
}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "patch_size": 8,
    "image_size": 32,
    "hidden_act": "quick_gelu",
}
TRANSFORMERS = {
    "model_type": "clip",
    "projection_dim": 24,
    "text_config": TEXT,
    "vision_config": VISION,
}
OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 48, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 13, "vocab_size": 96, "width": 32, "heads": 4, "layers": 2},
}


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Normalized pixels [3, 32, 32, 3], and texts [3, 13] that end with the largest token."""
    rng = np.random.default_rng(23)
    pixels = rng.standard_normal((3, 32, 32, 3)).astype(np.float32)
    tokens = rng.integers(0, 95, (3, 13))
    for row, end in enumerate((4, 9, 12)):
        tokens[row, end] = 95
        tokens[row, end + 1 :] = 0
    return pixels, tokens


def main() -> None:
    """Writes clip.npz beside this file."""
    import open_clip
    import torch
    import transformers

    parts = {name: TRANSFORMERS[f"{name}_config"] for name in ("text", "vision")}
    config = transformers.CLIPConfig(
        text_config=parts["text"],
        vision_config=parts["vision"],
        projection_dim=24,
        attn_implementation="eager",
    )
    models = {
        "transformers": transformers.CLIPModel(config),
        "open_clip": open_clip.model.CLIP(**OPEN_CLIP, quick_gelu=False),
    }
    pixels, tokens = inputs()
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2))
    arrays = {}
    for name, model in models.items():
        model.eval()
        with torch.no_grad():
            for own, parameter in model.named_parameters():
                parameter.copy_(torch.tensor(named_array(own, tuple(parameter.shape))))
            if name == "transformers":
                out = model(pixel_values=images, input_ids=torch.from_numpy(tokens))
                found = out.image_embeds, out.text_embeds, out.logits_per_image
            else:
                image, text, scale = model(images, torch.from_numpy(tokens))
                found = image, text, scale * image @ text.T
        shapes = [f"{n}:{','.join(map(str, p.shape))}" for n, p in model.named_parameters()]
        arrays[f"{name}/names"] = np.array(shapes)
        for part, values in zip(("images", "texts", "logits"), found, strict=True):
            arrays[f"{name}/{part}"] = values.numpy()
    np.savez_compressed(pathlib.Path(__file__).with_name("clip.npz"), **arrays)


if __name__ == "__main__":
    main()
