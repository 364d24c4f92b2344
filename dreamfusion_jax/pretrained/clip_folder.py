"""Reading CLIP models from folders, in the layouts of transformers and of OpenCLIP."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.model_files import (
    FLAG,
    NULL,
    TABLE,
    check_fields,
    each,
    either,
    number,
    read_config,
    shown,
    whole,
)
from dreamfusion_jax.models.clip import CLIPNetwork, CLIPVisionEncoder
from dreamfusion_jax.models.clip_text import (
    KINDS,
    check_heads,
    check_tower,
    clip_text_from_config,
    part_config,
)
from dreamfusion_jax.models.preprocessing import MEAN, STD, Preprocessing
from dreamfusion_jax.pretrained.clip_model import Clip
from dreamfusion_jax.pretrained.convert import load_pretrained_params
from dreamfusion_jax.pretrained.folder import resolved, weight_files
from dreamfusion_jax.pretrained.tokenizers import load_hf_tokenizer
from dreamfusion_jax.tensors import Tensors

_OPEN_CLIP = "open_clip_config.json"
_SIDE = whole(1, 2048)  # pixels
_VISION_KINDS = KINDS | {"patch_size": _SIDE, "image_size": _SIDE}
_SIZE_KINDS = dict.fromkeys(("crop_size", "size"), either(_SIDE, TABLE, NULL))
# Of the channels; the names of transformers, and of OpenCLIP.
_CHANNEL_KINDS = {
    **dict.fromkeys(("image_mean", "mean"), each(number(-1e3, 1e3), most=3, least=3)),
    **dict.fromkeys(("image_std", "std"), each(number(1e-6, 1e3), most=3, least=3)),
}
_OPEN_CLIP_KINDS = {
    **dict.fromkeys(("width", "layers", "heads", "head_width", "context_length"), whole()),
    **dict.fromkeys(("image_size", "patch_size"), _SIDE),
    "vocab_size": whole(1, 2**22),
    "mlp_ratio": number(0.01, 100),
}


def load_clip(folder: str | Path, dtype: Any = jnp.float32) -> Clip:
    """Read a CLIP model with vision transformer: OpenAI's and others in transformers' layout
    (config.json, model.safetensors, tokenizer), or OpenCLIP's (open_clip_config.json).

    Args:
      folder: of the model.
      dtype: of the parameters and the computation; vectors are float32.

    Raises:
      UserError: there is no such folder, it is of another kind, or it is damaged.
    """
    folder = resolved(Path(folder))
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give that of a CLIP model, or 'embedded'.")
    read = _read_open_clip if _is_open_clip(folder) else _read_transformers
    try:
        network, preprocessing, tensors = read(folder, dtype)
    except UserError as error:
        raise UserError(f"{folder} cannot be read as a CLIP model: {error}") from error
    size, tokens = preprocessing.size, network.text_model.max_position_embeddings
    shape = jax.ShapeDtypeStruct
    pixels = shape((1, size, size, 3), jnp.float32)
    texts = shape((1, tokens), jnp.int32), shape((1,), jnp.int32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), pixels, *texts)["params"]
    tokenizer = load_hf_tokenizer(folder, "clip")
    params = load_pretrained_params(tensors, shapes, dtype, _needed)
    return Clip(network, params, tokenizer, preprocessing)


def _is_open_clip(folder: Path) -> bool:
    """Return whether to read OpenCLIP's files: folders may hold both layouts, or another config."""
    if not (folder / _OPEN_CLIP).is_file():
        return False
    path = folder / "config.json"
    whole = path.is_file() and any(folder.glob("model*.safetensors"))
    return not whole or _json(path).get("model_type") != "clip"


def _needed(name: str) -> str | None:
    return None if name.endswith(".position_ids") else name


def network_from_config(config: Mapping[str, Any], dtype: Any = jnp.float32) -> CLIPNetwork:
    """Return the networks that transformers' CLIPModel `config.json` describes.

    Raises:
      UserError: it is of another kind, or its values make no sense.
    """
    check_fields(config, {"projection_dim": whole()}, "the CLIP model's config.json")
    fields = {f.name for f in dataclasses.fields(CLIPVisionEncoder)} - {"parent", "name", "dtype"}
    settings = part_config(config, "vision")
    check_tower(settings, _VISION_KINDS, "image")
    vision = CLIPVisionEncoder(**{k: settings[k] for k in fields & set(settings)}, dtype=dtype)
    check_heads(vision.hidden_size, vision.num_attention_heads, "image")
    if vision.patch_size > vision.image_size:
        raise UserError(
            f"the image encoder's config.json has patches of {vision.patch_size} pixels in "
            f"pictures of {vision.image_size}; fetch it again"
        )
    text = clip_text_from_config(part_config(config, "text"), dtype)
    return CLIPNetwork(vision, text, config.get("projection_dim", 512))


def _read_transformers(folder: Path, dtype: Any) -> tuple[CLIPNetwork, Preprocessing, Tensors]:
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} is no folder of a CLIP model: it has neither config.json nor {_OPEN_CLIP}."
        )
    config = _json(folder / "config.json")
    if config.get("model_type") != "clip":
        raise UserError(
            f"{folder} is no folder of a CLIP model: its config.json is of the kind "
            f"{shown(config.get('model_type'))}; one with both towers has 'clip'."
        )
    network = network_from_config(config, dtype)
    path = folder / "preprocessor_config.json"
    how = _json(path) if path.is_file() else {}
    check_fields(how, _SIZE_KINDS | _CHANNEL_KINDS, str(path))
    size = network.vision_model.image_size
    preprocessing = Preprocessing(
        _side(how.get("crop_size"), size),
        _side(how.get("size"), size),
        tuple(how.get("image_mean", MEAN)),
        tuple(how.get("image_std", STD)),
    )
    if preprocessing.size != size or preprocessing.shortest_edge < size:
        raise UserError(
            f"{path} resizes pictures to {preprocessing.shortest_edge} and cuts out "
            f"{preprocessing.size} pixels, but the network of its config.json sees {size}; use the "
            "pair as published."
        )
    return network, preprocessing, Tensors(weight_files(folder, dtype))


def _side(size: Any, default: int) -> int:
    """Of the ways in which a square or a shorter side has been written."""
    if isinstance(size, Mapping):
        kinds = dict.fromkeys(("shortest_edge", "height"), either(_SIDE, NULL))
        check_fields(size, kinds, "a size of pictures in preprocessor_config.json")
        size = size.get("shortest_edge", size.get("height"))
    return default if size is None else size


def _read_open_clip(folder: Path, dtype: Any) -> tuple[CLIPNetwork, Preprocessing, Tensors]:
    path = folder / _OPEN_CLIP
    config = _json(path)
    check_fields(config, {"model_cfg": TABLE, "preprocess_cfg": TABLE}, str(path))
    model, how = config.get("model_cfg", {}), config.get("preprocess_cfg", {})
    check_fields(how, _CHANNEL_KINDS, f"{path}: preprocess_cfg")
    network = network_from_config(_as_transformers(model, folder), dtype)
    size = network.vision_model.image_size
    preprocessing = Preprocessing(
        size, size, tuple(how.get("mean", MEAN)), tuple(how.get("std", STD))
    )
    files = sorted(folder.glob("open_clip*.safetensors"))
    if not files:
        raise UserError(f"{folder} has no open_clip_model.safetensors; fetch the model's weights.")
    return network, preprocessing, OpenClipTensors(files[:1])


def _as_transformers(model: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """OpenCLIP's `model_cfg` as transformers' config."""
    path = f"{folder}/{_OPEN_CLIP}"
    check_fields(model, {"vision_cfg": TABLE, "text_cfg": TABLE}, path)
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    other = "timm_model_name" in vision or "hf_model_name" in text
    if other or vision.get("patch_size") is None:
        raise UserError(
            f"The model in {folder} is not of the kind that can be read: a vision transformer with "
            "CLIP's own text encoder (ViT-B/32, B/16, L/14, H/14 ...)."
        )
    for part in (vision, text):
        check_fields(part, _OPEN_CLIP_KINDS, path)
    check_fields(model, {"quick_gelu": FLAG}, path)
    vision = {"width": 768} | vision
    act = "quick_gelu" if model.get("quick_gelu") else "gelu"

    def tower(settings, heads):
        width = settings.get("width", 512)
        return {
            "hidden_size": width,
            "intermediate_size": int(width * settings.get("mlp_ratio", 4)),
            "num_hidden_layers": settings.get("layers", 12),
            "num_attention_heads": heads,
            "hidden_act": act,
        }

    sizes = {"image_size": vision.get("image_size", 224), "patch_size": vision["patch_size"]}
    heads = vision["width"] // vision.get("head_width", 64)
    reads = {
        "max_position_embeddings": text.get("context_length", 77),
        "vocab_size": text.get("vocab_size", 49408),
    }
    return {
        "projection_dim": model.get("embed_dim", 512),
        "vision_config": tower(vision, heads) | sizes,
        "text_config": tower(text, text.get("heads", 8)) | reads,
    }


_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
_TURNED = ("visual.proj", "text_projection")  # x @ w there, w @ x in a linear layer
_IN_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_View = Callable[[np.ndarray], np.ndarray]


class OpenClipTensors(Tensors):
    """The tensors of an OpenCLIP file under transformers' names."""

    def __init__(self, paths: Sequence[Path]):
        """Read the headers, see `Tensors`."""
        super().__init__(paths)
        self._sources: dict[str, tuple[str, _View]] = {}
        for name, shape in super().shapes.items():
            parts = _renamed(name.removeprefix("text."))
            if len(parts) == 3 and (not shape or shape[0] % 3):
                raise UserError(
                    f"{self.paths[0]} is not of an OpenCLIP model: its tensor {shown(name)} has no "
                    "three parts."
                )
            for own, view in parts:
                self._sources[own] = name, view

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor."""
        empty = {n: np.broadcast_to(np.float32(0), shape) for n, shape in super().shapes.items()}
        return {own: view(empty[name]).shape for own, (name, view) in self._sources.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        source, view = self._sources[name]
        return view(super().__getitem__(source))

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _renamed(name: str) -> list[tuple[str, _View]]:
    """Return the names of a tensor's parts in transformers' layout, none for what is not needed."""
    if name in _OUTSIDE:
        return [(_OUTSIDE[name], np.transpose if name in _TURNED else np.asarray)]
    found = _IN_BLOCK.fullmatch(name)
    if not found:
        return [] if name == "attn_mask" else [(name, np.asarray)]
    visual, number, part, kind = found.groups()
    prefix = f"{'vision' if visual else 'text'}_model.encoder.layers.{number}"
    if part != "attn.in_proj":
        return [(f"{prefix}.{_BLOCK.get(part, part)}.{kind}", np.asarray)]

    def third(i: int) -> _View:
        return lambda array: np.split(array, 3)[i]

    return [(f"{prefix}.self_attn.{n}_proj.{kind}", third(i)) for i, n in enumerate("qkv")]


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_config(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fetch it again.") from error
