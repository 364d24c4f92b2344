"""Trains the image-text dual encoder that says what results show."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Array, Float

from dreamfusion_jax.furniture.augmentation import Augmentation
from dreamfusion_jax.furniture.evaluator_data import (
    EvaluatorBatch,
    EvaluatorData,
    draw_evaluator_batch,
    evaluator_data,
    evaluator_tokenizer,
)
from dreamfusion_jax.furniture.evaluator_views import EvaluatorViews, select
from dreamfusion_jax.furniture.object_views import nouns as shipped_nouns
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
from dreamfusion_jax.model_weights import load_params
from dreamfusion_jax.models.dual_encoder import (
    DualEncoderNetwork,
    init_params,
    network_from_config,
    save_dual_encoder,
)
from dreamfusion_jax.train.workdir import create_or_check_workdir


def train_evaluator(
    config: ml_collections.ConfigDict,
    views: EvaluatorViews,
    workdir: Path,
    *,
    progress: bool = True,
    init: str | Path | None = None,
) -> Path:
    """Train from the newest checkpoint in `workdir`, or from the start, to the last step.

    Writes checkpoints/, metrics.jsonl and, at each checkpoint, model/, which
    `DualEncoder.load` reads. All randomness depends on config.seed and the step. A new run starts
    from the weights of the model `init`, where one is given.

    Returns:
      The model's folder.

    Raises:
      UserError: a loss is not finite, intervals do not divide, `workdir` holds anything else, or
        `init` does not fit.
    """
    check_training(config)
    create_or_check_workdir(workdir, config)
    if config.nouns == "library":
        views = select(views, shipped_nouns())
    tokenizer = evaluator_tokenizer(views)
    model = config.model.to_dict() | {"nouns": list(views.nouns)}
    network = network_from_config(model, tokenizer.get_vocab_size())
    data = evaluator_data(views, tokenizer, model["tokens"])
    state, run = build(config, network, model)

    def start(state: TrainingState) -> TrainingState:
        if init is None:
            return state
        return with_params(state, load_params(Path(init) / "model.safetensors", state.params))

    def save(state: TrainingState) -> None:
        save_dual_encoder(workdir / MODEL_FOLDER, model, tokenizer, state.ema)

    fit(state, run, data, workdir, config.train, init=start, save=save, progress=progress)
    return workdir / MODEL_FOLDER


def build(config: ml_collections.ConfigDict, network: DualEncoderNetwork, model: dict[str, Any]):
    """Return the initial state, and the compiled program (state, data) -> (state, metrics)."""
    optimizer = make_optimizer(config.optim, config.train.steps)
    key = jax.random.key(config.seed)
    how = Augmentation(config.train.batch, model["image_size"], **config.augment)

    def one_step(state: TrainingState, data: EvaluatorData):
        batch = draw_evaluator_batch(jax.random.fold_in(key, state.step), data, how)
        loss = lambda params: retrieval_loss(network, params, batch, config.view_weight)  # noqa: E731
        (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return updated(state, grads, optimizer, config.optim.ema), metrics

    params = jax.jit(lambda k: init_params(network, model, k))(key)
    state = initial_state(params, optimizer)
    return state, compile_steps(one_step, config.train.steps_per_call)


def retrieval_loss(
    network: DualEncoderNetwork, params: Any, batch: EvaluatorBatch, view_weight: float
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return the cross-entropies of each image's noun among all, and of its view among four."""
    variables = {"params": params}
    images: Any = network.apply(variables, batch.images, method="encode_images")
    nouns: Any = network.apply(variables, *batch.nouns, method="encode_texts")
    views: Any = network.apply(variables, *batch.views, method="encode_texts")
    scale: Any = network.apply(variables, method="scale")
    noun_logits = scale * images @ nouns.T
    views = views.reshape(len(nouns), -1, views.shape[-1])[batch.noun]
    view_logits = scale * jnp.einsum("bd,bvd->bv", images, views)
    entropy = optax.softmax_cross_entropy_with_integer_labels
    noun_loss = entropy(noun_logits, batch.noun).mean()
    view_loss = entropy(view_logits, batch.view).mean()
    found = jnp.mean(noun_logits.argmax(-1) == batch.noun)
    seen = jnp.mean(view_logits.argmax(-1) == batch.view)
    metrics = {"loss": noun_loss, "view_loss": view_loss, "top_1": found, "view_accuracy": seen}
    return noun_loss + view_weight * view_loss, metrics
