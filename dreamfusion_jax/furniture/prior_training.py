"""Trains the embedded text-to-image prior."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import PIL.Image
import tokenizers
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from dreamfusion_jax.diffusion.cfg import to_image_range
from dreamfusion_jax.diffusion.noise_schedules import CosineSchedule
from dreamfusion_jax.diffusion.samplers import sample
from dreamfusion_jax.diffusion.text_to_image import (
    TIME_UNIT,
    TextToImagePrior,
    init_params,
    networks_from_config,
    save_prior,
)
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.images import save_png
from dreamfusion_jax.furniture.augmentation import Augmentation, DeviceData, draw_batch, to_device
from dreamfusion_jax.furniture.prior_data import CaptionedImages
from dreamfusion_jax.furniture.trainer import (
    MODEL_FOLDER,
    TrainingState,
    check_training,
    compile_steps,
    fit,
    initial_state,
    make_optimizer,
    updated,
    with_params,
)
from dreamfusion_jax.models.t5 import T5Encoder
from dreamfusion_jax.models.unet import UNet
from dreamfusion_jax.prompts.word_tokenizer import train_tokenizer
from dreamfusion_jax.train.profile import profiling
from dreamfusion_jax.train.workdir import create_or_check_workdir

DTYPES = ("float32", "bfloat16")  # of a training's arithmetic; weights and optimizer are float32


def train_prior(
    config: ml_collections.ConfigDict,
    data: CaptionedImages,
    workdir: Path,
    *,
    progress: bool = True,
    init: str | Path | None = None,
    profile: range | None = None,
) -> Path:
    """Train from the newest checkpoint in `workdir`, or from the start, to the last step.

    Writes checkpoints/, metrics.jsonl, samples/*.png and, at each checkpoint, model/ with
    the averaged weights, which `TextToImagePrior.load` reads. All randomness depends on
    config.seed and the step, so an interrupted and repeated run equals an unbroken one.

    `init` is the folder of a model whose weights a new run starts from. Words that it does not
    know keep their random start.

    `profile` are steps of which a trace is written to `workdir`/profile, see
    `train.profile.Profile`.

    Returns the model's folder. Raises UserError for a loss that is not finite, intervals
    that do not divide, a disk that is full, a `workdir` with anything else in it, or an `init` of
    another architecture.
    """
    check_training(config)
    if not config.train.time_exponent > 0:
        raise UserError(f"train.time_exponent={config.train.time_exponent} must be above 0")
    if config.train.dtype not in DTYPES:
        raise UserError(f"train.dtype is {config.train.dtype!r}; choose one of {', '.join(DTYPES)}")
    create_or_check_workdir(workdir, config)
    model = model_config(config)
    tokenizer = train_tokenizer(data.all_captions())
    model["text_encoder"]["vocab_size"] = tokenizer.get_vocab_size()
    model["names"] = list(data.names)
    device_data = to_device(data, tokenizer, model["tokens"])
    state, run = build(config, model)
    sheet = Sheet(config.sheet, TextToImagePrior.build(model, tokenizer, None), workdir)

    def start(state: TrainingState) -> TrainingState:
        return state if init is None else start_from(state, tokenizer, TextToImagePrior.load(init))

    def save(state: TrainingState) -> None:
        save_prior(workdir / MODEL_FOLDER, model, tokenizer, state.ema)

    def after_call(step: int, state: TrainingState) -> None:
        if step % config.sheet.every == 0 or step == config.train.steps:
            sheet.draw(step, state.ema)

    with profiling(profile, workdir) as around_call:
        fit(
            state,
            run,
            device_data,
            workdir,
            config.train,
            init=start,
            save=save,
            after_call=after_call,
            around_call=around_call,
            progress=progress,
        )
    return workdir / MODEL_FOLDER


def start_from(
    state: TrainingState, tokenizer: tokenizers.Tokenizer, model: TextToImagePrior
) -> TrainingState:
    """Return a fresh state with the weights of a model; words are matched by their spelling."""
    params = jax.tree.map(np.array, state.params)
    assert model.tokenizer is not None  # as it was read with it
    words, known = tokenizer.get_vocab(), model.tokenizer.get_vocab()
    common = [(words[word], known[word]) for word in words if word in known]
    own, theirs = np.array(common).T
    table, old = params["text_encoder"]["shared"], model.params["text_encoder"]["shared"]
    given = jax.tree.map(np.asarray, model.params)
    same_width = table["embedding"].shape[1] == old["embedding"].shape[1]
    if same_width:
        table["embedding"][own] = np.asarray(old["embedding"])[theirs]
        given["text_encoder"]["shared"] = table
    if not same_width or jax.tree.map(np.shape, given) != jax.tree.map(np.shape, params):
        raise UserError("the model given by --init has another architecture than the config's")
    return with_params(state, jax.tree.map(jnp.asarray, given))


def build(config: ml_collections.ConfigDict, model: dict[str, Any]):
    """Return the initial state, and the compiled program (state, data) -> (state, metrics)."""
    unet, text_encoder = networks_from_config(model, jnp.dtype(config.train.dtype))
    optimizer = make_optimizer(config.optim, config.train.steps)
    key = jax.random.key(config.seed)

    how = Augmentation(config.train.batch, model["image_size"], **config.augment)
    schedule = CosineSchedule(t_max=model["t_max"])

    def one_step(state: TrainingState, data: DeviceData):
        step_key = jax.random.fold_in(key, state.step)
        batch_key, loss_key = jax.random.split(step_key)
        batch = draw_batch(batch_key, data, how)
        how_far = (schedule, model["prediction"], config.train.time_exponent)
        loss_fn = functools.partial(denoising_loss, unet, text_encoder, *how_far)
        loss, grads = jax.value_and_grad(loss_fn)(state.params, loss_key, *batch)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(grads)}
        return updated(state, grads, optimizer, config.optim.ema), metrics

    # unsafe_rbg: threefry for a hundred parameters takes XLA far longer to compile.
    start = jax.random.key(config.seed, impl="unsafe_rbg")
    params = jax.jit(lambda k: init_params(unet, text_encoder, model, k))(start)
    state = initial_state(params, optimizer)
    return state, compile_steps(one_step, config.train.steps_per_call)


def denoising_loss(
    unet: UNet,
    text_encoder: T5Encoder,
    schedule: CosineSchedule,
    prediction: str,
    time_exponent: float,
    params: Any,
    key: Key[Array, ""],
    x: Float[Array, "batch size size 3"],
    tokens: Int[Array, "batch length"],
    attention_mask: Bool[Array, "batch length"],
) -> Float[Array, ""]:
    """Return the mean squared error of the predicted eps or v at random times.

    The times of a batch are t = u ** time_exponent with u evenly spaced and one random offset
    (Kingma et al. 2021), which makes the loss less noisy than independent draws.
    """
    time_key, noise_key = jax.random.split(key)
    batch = x.shape[0]
    t = ((jax.random.uniform(time_key) + jnp.arange(batch) / batch) % 1.0) ** time_exponent
    alpha, sigma = (a[:, None, None, None] for a in schedule.alpha_sigma(t))
    eps = jax.random.normal(noise_key, x.shape)
    target = eps if prediction == "eps" else alpha * eps - sigma * x
    states = text_encoder.apply({"params": params["text_encoder"]}, tokens, attention_mask)
    z_t = alpha * x + sigma * eps
    out: Any = unet.apply({"params": params["unet"]}, z_t, t * TIME_UNIT, states, attention_mask)
    return jnp.mean(jnp.square(out - target))


def model_config(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Return the content of the model's config.json."""
    model = config.model.to_dict()
    for part in ("unet", "text_encoder"):
        model[part] = {k: list(v) if isinstance(v, tuple) else v for k, v in model[part].items()}
    return model


class Sheet:
    """Sample sheets of fixed prompts and fixed noise, drawn while the training runs."""

    def __init__(self, config: ml_collections.ConfigDict, prior: TextToImagePrior, workdir: Path):
        self._config, self._prior = config, prior
        self._folder = workdir / "samples"
        self._folder.mkdir(exist_ok=True)

    def draw(self, step: int, params: Any) -> Path:
        """Write samples/STEP.png, one picture per prompt of the config."""
        config, path = self._config, self._folder / f"{step:07d}.png"
        encode = functools.partial(self._prior.encode_with, params)
        embeddings = {
            "positive": encode(config.prompts),
            "empty": encode([""] * len(config.prompts)),
        }
        x = sample(
            self._prior,
            params,
            jax.random.key(0),
            embeddings,
            steps=config.steps,
            guidance_weight=config.guidance_weight,
        )
        sheet = tile(np.asarray(to_image_range(x)), config.columns)
        save_png(PIL.Image.fromarray(sheet), path)
        return path


def tile(
    images: Float[np.ndarray, "n height width 3"], columns: int
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Return pictures in [0, 1] side by side, row by row, with a white pixel between them."""
    images = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1.0)
    missing = -len(images) % columns
    images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=1.0)
    n, height, width, _ = images.shape
    rows = images.reshape(n // columns, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    sheet = rows.reshape(n // columns * height, columns * width, 3)
    return (sheet * 255 + 0.5).astype(np.uint8)
