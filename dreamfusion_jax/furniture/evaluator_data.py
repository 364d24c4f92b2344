"""What the retrieval evaluator is trained on: cut-out pictures with nouns, and their batches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from jaxtyping import Array, Bool, Float, Int, Key

from dreamfusion_jax.furniture.augmentation import Augmentation, backgrounds, random_placement
from dreamfusion_jax.furniture.evaluator_views import EvaluatorViews
from dreamfusion_jax.prompts.known_nouns import with_article
from dreamfusion_jax.prompts.view_prompts import VIEW_WORDS, view_index
from dreamfusion_jax.prompts.word_tokenizer import tokenize, train_tokenizer

PLAIN_TOKENS = 8  # what a noun needs at most, without a view word
NAMES = 4  # of each noun: itself, and synonyms


class EvaluatorData(NamedTuple):
    """Pictures premultiplied by alpha, and tokens of every caption that can be drawn.

    `tokens[i, j, k]`: noun i by its name j with view word k (the last: none). Captions have no
    other words: what all have in common would only make their vectors alike.
    """

    images: Array  # uint8 [n, 64, 64, 4]
    noun: Int[Array, "n"]
    view: Int[Array, "n"]
    chance: Float[Array, "n"]  # cumulative, of drawing a picture
    tokens: Int[Array, "nouns names views length"]
    attention_mask: Bool[Array, "nouns names views length"]


def evaluator_tokenizer(views: EvaluatorViews) -> tokenizers.Tokenizer:
    """Return a tokenizer of all words that captions have."""
    return train_tokenizer(_captions(views).ravel())


def _captions(views: EvaluatorViews) -> np.ndarray:
    """Return all captions [nouns, names, views]."""
    captions = []
    for noun, synonyms in zip(views.nouns, views.synonyms, strict=True):
        names = [noun, *synonyms]
        names = [with_article(names[i % len(names)]) for i in range(NAMES)]
        captions.append([[*(f"{name}, {view}" for view in VIEW_WORDS), name] for name in names])
    return np.array(captions)


def evaluator_data(
    views: EvaluatorViews, tokenizer: tokenizers.Tokenizer, length: int
) -> EvaluatorData:
    """Return the pictures to learn from, and all captions.

    A noun's share grows with the root of its number of pictures: there are many chairs.
    """
    chosen = np.flatnonzero(~views.held_out)
    noun = views.noun[chosen]
    weight = 1 / np.sqrt(np.bincount(noun)[noun])
    chance = np.cumsum(weight / weight.sum())
    images = np.empty((len(chosen), *views.rgba.shape[1:]), np.uint8)
    for row, index in enumerate(chosen):  # one at a time: the file is larger than the cache
        images[row] = _premultiplied(views.rgba[index])
    captions = _captions(views)
    ids, attention_mask = tokenize(tokenizer, list(captions.ravel()), length)
    view = view_index(jnp.asarray(views.azimuth[chosen]), jnp.asarray(views.elevation[chosen]))
    return EvaluatorData(
        jnp.asarray(images),
        jnp.asarray(noun, jnp.int32),
        jnp.asarray(view, jnp.int32),
        jnp.asarray(chance, jnp.float32),
        jnp.asarray(ids.reshape(*captions.shape, length)),
        jnp.asarray(attention_mask.reshape(*captions.shape, length)),
    )


def _premultiplied(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.concatenate([(rgba[..., :3] * alpha + 0.5).astype(np.uint8), rgba[..., 3:]], -1)


class EvaluatorBatch(NamedTuple):
    """Images in [-1, 1], the noun and the view word of each, and captions' tokens.

    `nouns`: one caption of every noun; `views`: each of these with the four view words.
    """

    images: Float[Array, "batch size size 3"]
    noun: Int[Array, "batch"]
    view: Int[Array, "batch"]
    nouns: tuple[Array, Array]
    views: tuple[Array, Array]


def draw_evaluator_batch(
    key: Key[Array, ""], data: EvaluatorData, how: Augmentation
) -> EvaluatorBatch:
    """Return random pictures, over random backgrounds, as sharp and as clean as results may be.

    Half are mirrored: that changes neither the noun nor front, side and back.
    """
    keys = jax.random.split(key, 6)
    drawn = jax.random.uniform(keys[0], (how.batch,))
    index = jnp.searchsorted(data.chance, drawn).clip(0, len(data.noun) - 1)
    rgba = random_placement(keys[1], data.images[index].astype(jnp.float32) / 255, how)
    images = rgba[..., :3] + (1 - rgba[..., 3:]) * backgrounds(keys[2], how.batch, how.image_size)
    mirrored = jax.random.bernoulli(keys[5], 0.5, (how.batch, 1, 1, 1))
    images = jnp.where(mirrored, images[:, :, ::-1], images)
    noun, view = data.noun[index], data.view[index]
    name = jax.random.randint(keys[4], (len(data.tokens),), 0, data.tokens.shape[1])
    every = jnp.arange(len(data.tokens))

    def texts(tokens):
        drawn = tokens[every, name]
        return drawn[:, -1, :PLAIN_TOKENS], drawn[:, :-1].reshape(-1, tokens.shape[-1])

    ids, attention_mask = texts(data.tokens), texts(data.attention_mask)
    nouns, views = zip(ids, attention_mask, strict=True)
    return EvaluatorBatch(2 * corrupt(keys[3], images) - 1, noun, view, nouns, views)


def corrupt(
    key: Key[Array, ""], images: Float[Array, "batch size size 3"]
) -> Float[Array, "batch size size 3"]:
    """Blur some images, and change the brightness, contrast and noise of all: as results are."""
    keys = jax.random.split(key, 5)
    batch, size = images.shape[:2]

    def each(key, low, high):
        return jax.random.uniform(key, (batch, 1, 1, 1), minval=low, maxval=high)

    half = jax.image.resize(images, (batch, size // 2, size // 2, 3), "linear")
    half = jax.image.resize(half, images.shape, "linear")
    share = jnp.maximum(each(keys[0], -1.0, 1.0), 0.0)
    images = images + share * (half - images)
    images = 0.5 + each(keys[1], 0.8, 1.2) * (images - 0.5) + each(keys[2], -0.1, 0.1)
    noise = each(keys[3], 0.0, 0.06) * jax.random.normal(keys[4], images.shape)
    return jnp.clip(images + noise, 0, 1)
