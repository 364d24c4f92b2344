"""Text encoders of published models: read when they are needed, and not kept.

T5-XXL has 4.7 billion parameters, of which each layer is used once: layers are read one after
the other, the next one while one computes, and never more than two are in memory.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.io import read_file
from dreamfusion_jax.model_files import shown
from dreamfusion_jax.models.clip_text import CLIPTextEncoder, clip_text_from_config, part_config
from dreamfusion_jax.models.t5 import (
    RMSNorm,
    T5Block,
    T5Encoder,
    mask_bias,
    position_bias,
    t5_from_config,
)
from dreamfusion_jax.pretrained.convert import (
    check_pretrained,
    from_pretrained,
    is_bookkeeping,
    load_pretrained_params,
)
from dreamfusion_jax.pretrained.embedding_cache import EmbeddingCache, file_digest
from dreamfusion_jax.pretrained.folder import ModelFolder
from dreamfusion_jax.pretrained.tokenizers import (
    HFTokenizer,
    load_hf_tokenizer,
)
from dreamfusion_jax.prompts.word_tokenizer import check_ids
from dreamfusion_jax.tensors import Tensors
from dreamfusion_jax.types import Conditioning

IF_TOKENS = 77  # DeepFloyd IF reads so many of T5's, which itself has no limit
_ROWS = 16  # texts that go through a layer together

States = Float[Array, "rows tokens width"]


@dataclasses.dataclass(frozen=True, eq=False)
class TextEncoder:
    """Encodes texts with a published encoder, whose states are kept on disk.

    `encode_ids` maps token ids and their mask to states of so many numbers, the `width`; `prepare`
    is done to a text first.
    """

    tokenizer: HFTokenizer
    tokens: int
    width: int
    encode_ids: Callable[[Int[np.ndarray, "rows tokens"], Bool[np.ndarray, "rows tokens"]], Any]
    cache: EmbeddingCache
    prepare: Callable[[str], str] = str

    def encode(self, texts: Sequence[str]) -> Conditioning:
        """Return one row of states for each text."""
        texts = [self.prepare(text) for text in texts]
        ids, mask = self.tokenizer(texts, self.tokens)
        known = {text: self.cache.get(text) for text in texts}
        new = [text for text, states in known.items() if states is None]
        if new:
            rows = [texts.index(text) for text in new]
            for text, states in zip(new, self.encode_ids(ids[rows], mask[rows]), strict=True):
                self.cache.put(text, states)
                known[text] = states
        states = jnp.stack([x for text in texts if (x := known[text]) is not None])
        return Conditioning(states=states, mask=jnp.asarray(mask))


def text_encoder_of(folder: ModelFolder, dtype: Any) -> TextEncoder:
    """Return the reader of a model's text_encoder/ and tokenizer/, with the files checked.

    Raises:
      UserError: files are missing or damaged, or the encoder is of a kind that is not known.
    """
    config = folder.config("text_encoder")
    kind = _kind(config)
    tensors = folder.tensors("text_encoder", dtype)
    if kind not in ("t5", "clip"):
        raise UserError(
            f"{folder.path}/text_encoder is of the kind {shown(kind)}; T5 encoders (DeepFloyd IF) "
            "and CLIP text models (Stable Diffusion) are supported."
        )
    try:
        encoder: Any = (
            t5_from_config(config, dtype) if kind == "t5" else _clip_encoder(config, dtype)
        )
    except UserError as error:
        raise UserError(f"{folder.path}: {error}") from error
    if kind == "t5":
        check_t5(encoder, tensors)
        width, tokens = encoder.d_model, IF_TOKENS
        encode = functools.partial(stream_t5, encoder, tensors)
    else:
        shapes = _clip_shapes(encoder)
        check_pretrained(tensors, shapes, clip_name)
        width, tokens = encoder.hidden_size, encoder.max_position_embeddings
        encode = functools.partial(_encode_clip, encoder, tensors, shapes)
    tokenizer = load_hf_tokenizer(folder.path / "tokenizer", kind)
    check_ids(tokenizer.largest, encoder.vocab_size, f"{folder.path}/tokenizer")
    cache = EmbeddingCache(_fingerprint(folder.path, tensors.paths, dtype))
    return TextEncoder(tokenizer, tokens, width, encode, cache, _lower if kind == "t5" else str)


def _clip_encoder(config: dict[str, Any], dtype: Any) -> CLIPTextEncoder:
    """Return the encoder of a config, or of the text part of a whole CLIPModel's."""
    whole = config.get("model_type") == "clip" or "text_config" in config
    return clip_text_from_config(part_config(config, "text") if whole else config, dtype)


def _lower(text: str) -> str:
    """Return a text as DeepFloyd IF reads it."""
    return text.lower().strip()


def _kind(config: dict[str, Any]) -> Any:
    """ "t5" or "clip", or what the config says that it is."""
    classes = config.get("architectures")
    kind = config.get("model_type") or (
        classes[0] if isinstance(classes, list) and classes else "?"
    )
    known = {"t5": "t5", "T5EncoderModel": "t5"}
    known |= dict.fromkeys(("clip", "clip_text_model", "CLIPTextModel", "CLIPModel"), "clip")
    return known.get(kind, kind) if isinstance(kind, str) else kind


def clip_name(name: str) -> str | None:
    """Return the name of a CLIP text weight without the prefix that some files have.

    None is what else a whole CLIPModel or one with a projection has.
    """
    name = name.removeprefix("text_model.")
    other = name.startswith(("vision_model.", "visual_projection.", "text_projection."))
    unused = other or name in ("embeddings.position_ids", "logit_scale")
    return None if unused else name


def _clip_shapes(encoder: CLIPTextEncoder) -> dict[str, Any]:
    ids = jax.ShapeDtypeStruct((1, encoder.max_position_embeddings), jnp.int32)
    return jax.eval_shape(encoder.init, jax.random.key(0), ids)["params"]


def _encode_clip(
    encoder: CLIPTextEncoder,
    tensors: Tensors,
    shapes: dict[str, Any],
    ids: np.ndarray,
    mask: np.ndarray,
) -> States:
    params = load_pretrained_params(tensors, shapes, encoder.dtype, clip_name)
    return jax.jit(encoder.apply)({"params": params}, ids)


_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_TABLES = ("shared.weight", "encoder.embed_tokens.weight")
_FINAL_NORM = "encoder.final_layer_norm.weight"


def check_t5(encoder: T5Encoder, tensors: Tensors) -> None:
    """Raise a UserError where the files lack something of the encoder, or have more."""
    width, inner = encoder.d_model, encoder.num_heads * encoder.d_kv
    wanted = {
        _BIAS: (encoder.relative_attention_num_buckets, encoder.num_heads),
        _FINAL_NORM: (width,),
    }
    for i in range(encoder.num_layers):
        attention, dense = (f"encoder.block.{i}.layer.{j}." for j in (0, 1))
        wanted |= {f"{prefix}layer_norm.weight": (width,) for prefix in (attention, dense)}
        wanted |= {f"{attention}SelfAttention.{n}.weight": (inner, width) for n in "qkv"}
        wanted[f"{attention}SelfAttention.o.weight"] = (width, inner)
        wanted |= {f"{dense}DenseReluDense.wi_{j}.weight": (encoder.d_ff, width) for j in (0, 1)}
        wanted[f"{dense}DenseReluDense.wo.weight"] = (width, encoder.d_ff)
    shapes = {name: shape for name, shape in tensors.shapes.items() if not is_bookkeeping(name)}
    tables = [shapes.pop(name) for name in _TABLES if name in shapes]
    differ = sorted(name for name in {*wanted, *shapes} if wanted.get(name) != shapes.get(name))
    if not tables or any(shape != (encoder.vocab_size, width) for shape in tables):
        differ.append(_TABLES[0])
    if differ:
        raise UserError(
            f"The weights in {tensors.paths[0].parent} do not fit the config.json beside them "
            f"({len(differ)} tensors differ, the first is {shown(differ[0])}); use the pair as "
            "published."
        )


def stream_t5(
    encoder: T5Encoder,
    tensors: Tensors,
    ids: Int[np.ndarray, "rows tokens"],
    mask: Bool[np.ndarray, "rows tokens"],
) -> States:
    """Return the states of token ids, with at most two layers in memory."""
    table = tensors[next(name for name in _TABLES if name in tensors)]
    # Only the rows that are asked for are read of the table.
    states = [jnp.asarray(table[ids[i : i + _ROWS]], encoder.dtype) for i in _starts(ids)]
    places = position_bias(
        jnp.asarray(tensors[_BIAS], jnp.float32),
        ids.shape[1],
        encoder.relative_attention_max_distance,
    )
    biases = [places + mask_bias(jnp.asarray(mask[i : i + _ROWS])) for i in _starts(ids)]
    block = T5Block(
        encoder.attention_shape,
        owns_bias=False,
        hidden=encoder.d_ff,
        eps=encoder.layer_norm_epsilon,
        dtype=encoder.dtype,
    )
    apply = jax.jit(lambda params, x, bias: block.apply({"params": params}, x, bias)[0])
    for params in _layers(encoder, tensors):
        states = [apply(params, x, bias) for x, bias in zip(states, biases, strict=True)]
        jax.block_until_ready(states)
        del params
    norm = RMSNorm(encoder.layer_norm_epsilon, encoder.dtype)
    scale = {"scale": jnp.asarray(tensors[_FINAL_NORM], encoder.dtype)}
    normed: list[Any] = [norm.apply({"params": scale}, x) for x in states]
    return jnp.concatenate(normed)


def _layers(encoder: T5Encoder, tensors: Tensors) -> Iterator[dict[str, Any]]:
    """Return the parameters of each layer; while one is in use the next is read."""

    def read(i):
        prefix = f"encoder.block.{i}."
        names = [name for name in tensors if name.startswith(prefix) and name != _BIAS]
        arrays = ((name.removeprefix(prefix), tensors[name]) for name in names)
        return jax.tree.map(jnp.asarray, from_pretrained(arrays, encoder.dtype))

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, 0)
        for i in range(encoder.num_layers):
            params = coming.result()
            if i + 1 < encoder.num_layers:
                coming = reader.submit(read, i + 1)
            yield params
            del params


def _starts(ids: np.ndarray) -> range:
    return range(0, len(ids), _ROWS)


def _fingerprint(folder: Path, weights: Sequence[Path], dtype: Any) -> str:
    """Tell models apart by their settings and all of their weights."""
    digest = hashlib.sha256(str(jnp.dtype(dtype)).encode())
    settings = [p for name in ("text_encoder", "tokenizer") for p in (folder / name).glob("*")]
    try:
        for path in sorted(p for p in settings if p.suffix in (".json", ".txt", ".model")):
            digest.update(path.name.encode() + read_file(path))
        for path in weights:
            digest.update(f"{path.name} {file_digest(path)}".encode())
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}); fetch it again."
        ) from error
    return digest.hexdigest()[:32]
