"""Trains the image-text dual encoder that judges results."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from tqdm.auto import tqdm

from dreamfusion_jax.datasets.judge_views import JudgeViews, select
from dreamfusion_jax.datasets.library import nouns as library_nouns
from dreamfusion_jax.diffusion.weights import load_params
from dreamfusion_jax.image_text.dual_encoder import (
    DualEncoderNetwork,
    init_params,
    network_from_config,
    save_dual_encoder,
)
from dreamfusion_jax.train.batches import Augmentation
from dreamfusion_jax.train.checkpoint import FOLDER, Checkpoints, write_config
from dreamfusion_jax.train.judge_data import (
    JudgeBatch,
    JudgeData,
    draw_judge_batch,
    judge_data,
    judge_tokenizer,
)
from dreamfusion_jax.train.metrics import MetricsLog, means
from dreamfusion_jax.train.prior import (
    MODEL_FOLDER,
    check_intervals,
    compile_steps,
    make_optimizer,
    stop_if_not_finite,
)


class JudgeState(NamedTuple):
    """Everything a run needs to go on; `ema` is the moving average that is shipped."""

    step: Int[Array, ""]
    params: Any
    ema: Any
    opt_state: optax.OptState


def train_judge(
    config: ml_collections.ConfigDict,
    views: JudgeViews,
    workdir: Path,
    *,
    progress: bool = True,
    init: str | Path | None = None,
) -> Path:
    """Trains from the newest checkpoint in `workdir`, or from the start, to the last step.

    Writes checkpoints/, metrics.jsonl and, at each checkpoint, model/, which
    `DualEncoder.load` reads. All randomness depends on config.seed and the step. A new run starts
    from the weights of the model `init`, where one is given.

    Returns:
      The model's folder.

    Raises:
      UserError: a loss is not finite, intervals do not divide, or `init` does not fit.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    check_intervals(config.train)
    write_config(workdir, config)
    if config.nouns == "library":
        views = select(views, library_nouns())
    tokenizer = judge_tokenizer(views)
    model = config.model.to_dict() | {"nouns": list(views.nouns)}
    network = network_from_config(model, tokenizer.get_vocab_size())
    data = judge_data(views, tokenizer, model["tokens"])
    state, run = build(config, network, model)
    checkpoints = Checkpoints(workdir / FOLDER)
    if checkpoints.latest_step() is not None:
        state = JudgeState(*checkpoints.restore({"state": tuple(state)})["state"])
    elif init is not None:
        params = load_params(Path(init) / "model.safetensors", state.params)
        state = state._replace(params=params, ema=jax.tree.map(jnp.copy, params))
    step, train = int(state.step), config.train
    log = MetricsLog(workdir, resume_step=step)
    with tqdm(total=train.steps, initial=step, unit="step", disable=not progress) as bar:
        while step < train.steps:
            began = time.perf_counter()
            state, metrics = run(state, data)
            metrics = {name: np.asarray(values) for name, values in metrics.items()}
            stop_if_not_finite(step, metrics)
            step += train.steps_per_call
            rate = train.steps_per_call * train.batch / (time.perf_counter() - began)
            log.write(step, means(metrics) | {"images_per_second": round(rate, 2)})
            bar.set_postfix(**{k: f"{v.mean():.3f}" for k, v in metrics.items()}, refresh=False)
            bar.update(train.steps_per_call)
            if step % train.checkpoint_every == 0 or step == train.steps:
                checkpoints.save(step, {"state": tuple(state)})
                save_dual_encoder(workdir / MODEL_FOLDER, model, tokenizer, state.ema)
    checkpoints.close()
    return workdir / MODEL_FOLDER


def build(config: ml_collections.ConfigDict, network: DualEncoderNetwork, model: dict[str, Any]):
    """The initial state, and the compiled program (state, data) -> (state, metrics)."""
    optimizer = make_optimizer(config.optim, config.train.steps)
    key = jax.random.key(config.seed)
    how = Augmentation(config.train.batch, model["image_size"], **config.augment)

    def one_step(state: JudgeState, data: JudgeData):
        batch = draw_judge_batch(jax.random.fold_in(key, state.step), data, how)
        loss = lambda params: retrieval_loss(network, params, batch, config.view_weight)  # noqa: E731
        (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(config.optim.ema, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        return JudgeState(state.step + 1, params, ema, opt_state), metrics

    params = jax.jit(lambda k: init_params(network, model, k))(key)
    state = JudgeState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))
    # Copied, so that params and ema are separate buffers and can be donated.
    return jax.tree.map(jnp.copy, state), compile_steps(one_step, config.train.steps_per_call)


def retrieval_loss(
    network: DualEncoderNetwork, params: Any, batch: JudgeBatch, view_weight: float
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Cross-entropy of each image's noun among all nouns, and of views among the four words."""
    variables = {"params": params}
    images = network.apply(variables, batch.images, method="encode_images")
    nouns = network.apply(variables, *batch.nouns, method="encode_texts")
    views = network.apply(variables, *batch.views, method="encode_texts")
    scale = network.apply(variables, method="scale")
    noun_logits = scale * images @ nouns.T
    views = views.reshape(-1, 4, views.shape[-1])
    view_logits = scale * jnp.einsum("bd,bvd->bv", images[: len(views)], views)
    view = batch.view[: len(views)]
    entropy = optax.softmax_cross_entropy_with_integer_labels
    noun_loss = entropy(noun_logits, batch.noun).mean()
    view_loss = entropy(view_logits, view).mean()
    found = jnp.mean(noun_logits.argmax(-1) == batch.noun)
    seen = jnp.mean(view_logits.argmax(-1) == view)
    metrics = {"loss": noun_loss, "view_loss": view_loss, "top_1": found, "view_accuracy": seen}
    return noun_loss + view_weight * view_loss, metrics
