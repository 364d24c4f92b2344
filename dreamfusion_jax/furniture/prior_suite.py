"""The prior suite: how well a text-to-image prior draws the objects of the shipped library.

Everything is compared with true renders: those that it was trained on, where it was trained on
the library, and the held-out ones of `object_views.load_ground_truth`.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Float, Int
from scipy import linalg

from dreamfusion_jax.diffusion.cfg import to_image_range
from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.diffusion.prior import Prior, encode_rows
from dreamfusion_jax.diffusion.samplers import ancestral_sample
from dreamfusion_jax.export.images import save_png, sheet, to_uint8
from dreamfusion_jax.furniture.captions import view_words
from dreamfusion_jax.furniture.colors import color_words
from dreamfusion_jax.furniture.object_views import (
    box_downsample,
    load_ground_truth,
    load_object_views,
)
from dreamfusion_jax.furniture.retrieval_evaluator import RetrievalEvaluator, close_up
from dreamfusion_jax.io import write_json
from dreamfusion_jax.prompts.known_nouns import with_article
from dreamfusion_jax.prompts.view_prompts import VIEW_WORDS

TIMES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COLORS = ("red", "green", "blue", "yellow")
SIDES = VIEW_WORDS[:3]  # the held-out views have none from overhead
_BATCH = 16
_SHEET_COLUMNS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class LabeledImages:
    """Cut-out pictures (straight alpha, in [0, 1]) with their nouns and view words."""

    rgba: Float[np.ndarray, "n size size 4"]
    nouns: list[str]
    views: list[str]

    def prompts(self) -> list[str]:
        """Return a caption of each."""
        pairs = zip(self.nouns, self.views, strict=True)
        return [f"a photo of {with_article(noun)}, {view}" for noun, view in pairs]

    def on_colors(self, seed: int) -> Float[np.ndarray, "n size size 3"]:
        """Return the pictures over random flat colors, in [0, 1]."""
        color = np.random.default_rng(seed).random((len(self.rgba), 1, 1, 3))
        alpha = self.rgba[..., 3:]
        return (self.rgba[..., :3] * alpha + color * (1 - alpha)).astype(np.float32)


def renders(nouns: Sequence[str], size: int, held_out: bool) -> LabeledImages:
    """Return the library's views of some nouns, or those held out from it."""
    images, names, words = [], [], []
    for noun in nouns:
        views = load_ground_truth(noun) if held_out else load_object_views(nouns=[noun])
        fields = (views.rgba, views.azimuth, views.elevation)
        rgba, azimuth, elevation = fields if held_out else (field[0] for field in fields)
        images.append(box_downsample(rgba.astype(np.float32) / 255, size))
        names += [noun] * len(rgba)
        words += view_words(azimuth, elevation)
    return LabeledImages(np.concatenate(images), names, words)


def denoising_errors(
    prior: Prior, shown: LabeledImages, count: int, seed: int = 0
) -> dict[float, Float[np.ndarray, "count"]]:
    """Return the mean squared error of eps_hat at each of TIMES, for `count` of the pictures.

    The same pictures, backgrounds and noise for every prior.
    """
    chosen = np.random.default_rng(seed).permutation(len(shown.rgba))[:count]
    x = 2 * shown.on_colors(seed)[chosen] - 1
    eps = np.asarray(jax.random.normal(jax.random.key(seed), x.shape))
    prompts = shown.prompts()
    embeddings = prior.encode([prompts[i] for i in chosen])
    eps_hat = jax.jit(prior.architecture().eps_hat)
    errors: dict[float, Any] = {t: [] for t in TIMES}
    for start in range(0, len(x), _BATCH):
        rows = slice(start, start + _BATCH)
        texts = jax.tree.map(lambda leaf, rows=rows: leaf[rows], embeddings)
        for time in TIMES:
            t = jnp.full(len(x[rows]), time)
            alpha, sigma = (
                np.asarray(a)[:, None, None, None] for a in prior.schedule.alpha_sigma(t)
            )
            guess = eps_hat(prior.params, alpha * x[rows] + sigma * eps[rows], t, texts)
            errors[time].append(np.mean((np.asarray(guess) - eps[rows]) ** 2, axis=(1, 2, 3)))
    return {time: np.concatenate(parts) for time, parts in errors.items()}


def draw(
    prior: Prior, prompts: Sequence[str], *, steps: int, guidance_weight: float, seed: int = 0
) -> Float[np.ndarray, "n size size 3"]:
    """Return one picture of each prompt in [0, 1], by ancestral sampling."""
    embeddings = encode_rows(prior, positive=prompts, empty=[""] * len(prompts))
    settings = {"steps": steps, "guidance_weight": guidance_weight}
    images = []
    for start in range(0, len(prompts), _BATCH):
        index = np.minimum(np.arange(start, start + _BATCH), len(prompts) - 1)
        rows = jax.tree.map(lambda leaf, i=index: leaf[i], embeddings)
        key = jax.random.fold_in(jax.random.key(seed), start)
        drawn = ancestral_sample(prior, prior.params, key, rows, **settings)
        images.append(np.asarray(to_image_range(drawn)))
    return np.concatenate(images)[: len(prompts)]


def frechet_distance(a: Float[np.ndarray, "n width"], b: Float[np.ndarray, "m width"]) -> float:
    """Between Gaussians fitted to two sets of features (Heusel et al. 2017, Eq. 6)."""
    mean = np.sum((a.mean(0) - b.mean(0)) ** 2)
    first, second = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(first @ second)
    return float(mean + np.trace(first + second - 2 * np.real(root)))


def evaluate_prior(
    prior: Prior,
    nouns: Sequence[str],
    evaluator: RetrievalEvaluator,
    *,
    samples: int = 200,
    images: int = 96,
    steps: int = 32,
    guidance_weight: float = 2.0,
    out: str | os.PathLike | None = None,
    sample_sheet: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Score a prior on nouns of the library, print a table and write one JSON file.

    Args:
      prior: of images of at most 64 pixels, whose side divides 64.
      nouns: what it knows, of the library.
      evaluator: says what samples show.
      samples: pictures drawn for retrieval and the Frechet distance, as many for the views, and
        for the colors.
      pictures: true renders of each kind for the denoising error.
      steps: of the sampler.
      guidance_weight: omega of the sampler.
      out: the JSON file; None writes none.
      sample_sheet: a PNG of samples; None writes none.
    """
    size = prior.image_shape[0]
    seen, unseen = (renders(nouns, size, held_out) for held_out in (False, True))
    views = [Caption(n, (), (v,)) for n, v in zip(seen.nouns, seen.views, strict=True)]
    optimal = EmpiricalPrior.from_images(seen.rgba, views)
    errors = {
        "prior, training views": denoising_errors(prior, seen, images),
        "prior, held-out views": denoising_errors(prior, unseen, images),
        "optimal, training views": denoising_errors(optimal, seen, images),
    }
    figures: dict[str, Any] = {"suite": "prior", "nouns": list(nouns)}
    figures["denoising error"] = {
        name: {str(t): float(f"{e.mean():.4g}") for t, e in by_time.items()}
        for name, by_time in errors.items()
    }
    how: dict[str, Any] = {"steps": steps, "guidance_weight": guidance_weight}
    names = [nouns[i % len(nouns)] for i in range(samples)]
    drawn = draw(prior, [f"a photo of {with_article(noun)}" for noun in names], **how)
    drawn_close, true = close_up(drawn), close_up(unseen.on_colors(1))
    ranks = evaluator.ranks(drawn_close, names)
    figures["retrieval among all nouns, %"] = _percent(ranks == 0)
    figures["retrieval, top 5, %"] = _percent(ranks < 5)
    figures["retrieval of true renders, %"] = _percent(evaluator.ranks(true, unseen.nouns) == 0)
    figures["frechet distance"] = round(
        frechet_distance(evaluator.encoder.images(drawn_close), evaluator.encoder.images(true)), 4
    )
    asked = each_word(SIDES, len(nouns), samples)
    texts = [f"a photo of {with_article(n)}, {v}" for n, v in zip(names, asked, strict=True)]
    seen_from = evaluator.seen_from(close_up(draw(prior, texts, seed=1, **how)), names, SIDES)
    figures["view accuracy, %"] = _percent(_by_word(seen_from, asked))
    seen_from = evaluator.seen_from(true, unseen.nouns, SIDES)
    figures["view accuracy of true renders, %"] = _percent(_by_word(seen_from, unseen.views))
    wanted = each_word(COLORS, len(nouns), samples)
    texts = [f"a photo of {with_article(f'{c} {n}')}" for n, c in zip(names, wanted, strict=True)]
    colored = draw(prior, texts, seed=2, **how)
    matches = [main_color(x) == c for x, c in zip(colored, wanted, strict=True)]
    figures["color accuracy, %"] = _percent(matches)
    print(_table(figures))
    if out is not None:
        write_json(out, figures)
    if sample_sheet is not None:
        write_sheet(drawn[: 4 * _SHEET_COLUMNS], sample_sheet)
    return figures


def each_word(words: Sequence[str], nouns: int, samples: int) -> list[str]:
    """Return a word for each sample of nouns in turn: all from the start, another each round."""
    return [words[(i % nouns + i // nouns) % len(words)] for i in range(samples)]


def _by_word(seen: Int[np.ndarray, "n"], words: Sequence[str]) -> list[float]:
    """Return the share of each of SIDES that was seen as such; all words count the same."""
    named = np.array([SIDES.index(word) for word in words])
    return [float(np.mean(seen[named == i] == i)) for i in range(len(SIDES)) if i in named]


def main_color(image: Float[np.ndarray, "h w 3"]) -> str:
    """Return the most frequent color word in the middle half of a picture."""
    h, w, _ = image.shape
    middle = image[h // 4 : -h // 4, w // 4 : -w // 4].reshape(-1, 3)
    names, counts = np.unique(color_words(middle), return_counts=True)
    return str(names[counts.argmax()])


def write_sheet(samples: Float[np.ndarray, "n h w 3"], path: str | os.PathLike) -> None:
    """Return rows of samples as a PNG."""
    images = list(to_uint8(samples))
    rows = [images[i : i + _SHEET_COLUMNS] for i in range(0, len(images), _SHEET_COLUMNS)]
    save_png(PIL.Image.fromarray(sheet([row for row in rows if len(row) == len(rows[0])])), path)


def _percent(hits: Sequence[bool] | Sequence[float] | np.ndarray) -> float:
    return round(100 * float(np.mean(np.asarray(hits))), 1)


def _table(figures: dict[str, Any]) -> str:
    errors = figures["denoising error"]
    lines = [f"{'denoising error at t':<34}{''.join(f'{t:>9}' for t in TIMES)}"]
    for name, by_time in errors.items():
        lines.append(f"{name:<34}{''.join(f'{e:>9.4g}' for e in by_time.values())}")
    lines += [
        f"{name:<34}{value:>9}" for name, value in figures.items() if isinstance(value, float)
    ]
    return "\n".join(lines)
