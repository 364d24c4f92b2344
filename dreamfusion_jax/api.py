"""The few functions that a notebook calls; `dreamfusion_jax.__all__` lists them."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image

from dreamfusion_jax.config import check_seed
from dreamfusion_jax.diffusion import samplers
from dreamfusion_jax.diffusion.cfg import to_image_range
from dreamfusion_jax.diffusion.load import find_prior, warn_unknown_words
from dreamfusion_jax.diffusion.prior import FrozenModel, Prior, encode_rows
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.images import check_png, save_png, sheet, to_uint8
from dreamfusion_jax.generation import generate, generate_many
from dreamfusion_jax.guidance.sds_sample import sds_sample
from dreamfusion_jax.io import local_path
from dreamfusion_jax.prompts.known_nouns import read_prompt
from dreamfusion_jax.prompts.text import check_prompt
from dreamfusion_jax.prompts.view_prompts import FINE_WORDS, VIEW_WORDS
from dreamfusion_jax.prompts.word_vectors import contains_phrase
from dreamfusion_jax.results import Result, export_all, export_mesh, render, view
from dreamfusion_jax.startup import prepare_jax
from dreamfusion_jax.suites import evaluate


def _told(prompt: str, model: FrozenModel) -> str:
    """Return a prompt in words that a prior knows, with its view words."""
    reading = read_prompt(prompt, model.known_nouns)
    views = [words for words in (*FINE_WORDS, *VIEW_WORDS) if contains_phrase(prompt, words)]
    return ", ".join([reading.prior_prompt, *views[:1]]) if reading.replaced else prompt


_METHODS = ("both", "ancestral", "ddim", "sds")


def sample(
    prompt: str,
    out: str | Path,
    *,
    prior: str | FrozenModel = "embedded",
    dtype: str = "float32",
    method: str = "both",
    count: int = 4,
    size: int = 32,
    steps: int = 64,
    sds_steps: int = 300,
    guidance_weight: float = 3.0,
    sds_guidance_weight: float = 20.0,
    seed: int = 0,
) -> Path:
    """Draw pictures from a prior alone: is the prior right? (and the paper's Figure 2).

    Args:
      prompt: what to draw.
      out: the picture to write: one row of `count` images for each method.
      prior: the model itself, or its name or folder, see `find_prior`.
      dtype: of a network, "float32" or "bfloat16".
      method: "ancestral" (DDPM), "ddim", "sds" (SDS on pixels), or "both": ancestral
        sampling above SDS, same prompt.
      count: images in a row.
      size: pixels of the images of "furniture-views" (a divisor of 64); a network has a
        size of its own.
      steps: of the samplers.
      sds_steps: optimizer steps of SDS.
      guidance_weight: omega of the samplers.
      sds_guidance_weight: omega of SDS.
      seed: random seed.
    """
    check_prompt(prompt)
    check_seed(seed)
    if method not in _METHODS:
        raise UserError(f"There is no method {method!r}; choose {', '.join(_METHODS)}.")
    if count < 1 or steps < 1 or sds_steps < 1:
        raise UserError("count, steps and sds-steps must be at least 1.")
    out = local_path(out)
    check_png(out)
    prepare_jax()
    model = find_prior(prior, dtype=dtype) if isinstance(prior, str) else prior
    prompt = _told(prompt, model)
    model = model.at(size)
    if not isinstance(model, Prior):
        raise UserError(f"A {type(model).__name__} draws no images; choose a diffusion model.")
    warn_unknown_words(model, prompt, prior if isinstance(prior, str) else type(prior).__name__)
    # Before the parameters are asked for.
    embeddings = encode_rows(model, positive=[prompt] * count, empty=[""] * count)
    key = jax.random.key(seed)
    rows = []
    if method in ("both", "ancestral", "ddim"):
        settings: dict[str, Any] = {"steps": steps, "guidance_weight": guidance_weight}
        if model.latent_shape != model.image_shape:
            settings["percentile"] = None  # latents have no range to keep
        eta = 0.0 if method == "ddim" else 1.0
        rows.append(samplers.sample(model, model.params, key, embeddings, eta=eta, **settings))
    if method in ("both", "sds"):
        settings = {"steps": sds_steps, "guidance_weight": sds_guidance_weight}
        rows.append(sds_sample(model, model.params, embeddings, key, **settings))
    compiled = model.architecture()  # what a program is compiled with stays in memory with it
    decode = jax.jit(lambda params, z: to_image_range(compiled.to_images(params, z)))
    # One image at a time: a decoder needs gigabytes for several.
    decoded = [[decode(model.params, z[None])[0] for z in row] for row in rows]
    images = [[to_uint8(np.asarray(image)) for image in row] for row in decoded]
    save_png(PIL.Image.fromarray(sheet(images)), out)
    return out
