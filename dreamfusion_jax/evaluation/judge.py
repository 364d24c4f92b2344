"""The judge: does a render show what the prompt says, and from where? (R-Precision, Janus)"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from dreamfusion_jax.datasets.captions import with_article
from dreamfusion_jax.datasets.judge_views import JudgeViews
from dreamfusion_jax.datasets.library import Truth
from dreamfusion_jax.evaluation.renders import Around, Look, scene_renders
from dreamfusion_jax.image_text.dual_encoder import DualEncoder
from dreamfusion_jax.prompts.views import VIEW_WORDS, view_index
from dreamfusion_jax.scene.render import Scene

SHIPPED = pathlib.Path(__file__).parent.parent / "priors" / "furniture_judge"
BACKGROUND = 0.5  # a grey, on which white and black objects are seen
_CROP = 7 / 64  # of each side: the judge learnt from pictures that are cut as closely
ZOOM = 1 / (1 - 2 * _CROP)
_SIDES = (0.25, 0.5, 0.75)  # azimuths of a Janus test, in turns: none is the front


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the judge says of one result.

    `colour` and `geo` are the shares of views, shaded and textureless, of which it ranks the
    right noun first among all nouns; `janus`: it takes a side or the back for a front.
    `true_colour` and `true_janus` are what it says of the true object's pictures, the best that
    can be asked for: many objects look alike from several sides.
    """

    colour: float
    geo: float
    janus: bool
    true_colour: float | None = None
    true_janus: bool | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """An image-text dual encoder and the nouns that it tells apart."""

    encoder: DualEncoder
    nouns: tuple[str, ...]

    @classmethod
    def load(cls, folder: pathlib.Path = SHIPPED) -> "Judge":
        """Reads a judge's folder; UserError where it is missing or damaged."""
        encoder = DualEncoder.load(folder)
        return cls(encoder, tuple(json.loads((folder / "config.json").read_text())["nouns"]))

    @functools.cached_property
    def _noun_vectors(self) -> Float[np.ndarray, "nouns width"]:
        return self.encoder.texts([with_article(noun) for noun in self.nouns])

    def ranks(
        self, images: Float[np.ndarray, "n h w 3"], noun: str | Sequence[str]
    ) -> Int[np.ndarray, "n"]:
        """The rank, from 0, of each image's noun among all nouns. Images in [0, 1]."""
        wanted = [noun] * len(images) if isinstance(noun, str) else list(noun)
        position = {noun: i for i, noun in enumerate(self.nouns)}
        logits = self.encoder.images(images) @ self._noun_vectors.T
        own = logits[np.arange(len(images)), [position[noun] for noun in wanted]]
        return (logits > own[:, None]).sum(1)

    def seen_from(
        self,
        images: Float[np.ndarray, "n h w 3"],
        noun: str | Sequence[str],
        words: Sequence[str] = VIEW_WORDS,
    ) -> Int[np.ndarray, "n"]:
        """Which of some view words fits each image best."""
        wanted = [noun] * len(images) if isinstance(noun, str) else list(noun)
        different = {n: i for i, n in enumerate(dict.fromkeys(wanted))}
        texts = [f"{with_article(n)}, {word}" for n in different for word in words]
        vectors = self.encoder.texts(texts).reshape(len(different), len(words), -1)
        own = vectors[[different[n] for n in wanted]]
        return np.einsum("nd,nvd->nv", self.encoder.images(images), own).argmax(1)


def judge_scene(judge: Judge, scene: Scene, params: dict, noun: str, look: Look) -> Judgement:
    """Judges renders of a scene.

    Args:
      judge: the judge.
      scene: modules and sampling numbers.
      params: the scene's parameters.
      noun: what the scene should show, one of the judge's nouns.
      look: how it is shown.
    """
    size, close = judge.encoder.image_size, dataclasses.replace(look, focal=look.focal * ZOOM)
    shown = scene_renders(scene, params, close, size, background=BACKGROUND)
    colour, geo = (np.mean(judge.ranks(shown[kind], noun) == 0) for kind in ("colour", "geo"))
    sides = shown["colour"][[round(turn * Around.azimuths) for turn in _SIDES]]
    fronts = judge.seen_from(sides, noun, VIEW_WORDS[:3]) == 0
    return Judgement(float(colour), float(geo), bool(fronts.any()))


def judge_truth(judge: Judge, truth: Truth) -> tuple[float, bool]:
    """The share of a true object's pictures that show its noun, and whether it seems a Janus."""
    cut = round(_CROP * truth.rgba.shape[1])
    images = on_grey(truth.rgba[:, cut:-cut, cut:-cut])
    found = np.mean(judge.ranks(images, truth.noun) == 0)
    wanted = 2 * np.pi * np.array(_SIDES) + np.radians(22.5)  # its views lie between
    raised = np.isclose(truth.elevation, truth.elevation.max(), atol=1e-3)
    sides = [np.isclose(truth.azimuth, azimuth, atol=1e-3) & raised for azimuth in wanted]
    views = images[[int(np.flatnonzero(side)[0]) for side in sides]]
    return float(found), bool((judge.seen_from(views, truth.noun, VIEW_WORDS[:3]) == 0).any())


def on_grey(rgba: UInt8[np.ndarray, "n h w 4"]) -> Float[np.ndarray, "n h w 3"]:
    """Cut-out pictures over the judge's background, in [0, 1]."""
    rgba = rgba.astype(np.float32) / 255
    return rgba[..., :3] * rgba[..., 3:] + BACKGROUND * (1 - rgba[..., 3:])


def check_judge(judge: Judge, views: JudgeViews) -> dict[str, Any]:
    """Top-1 retrieval and view accuracy on true renders that were not learnt from.

    View accuracy counts front, side and back apart; objects that look alike from several sides
    are among them.
    """
    figures: dict[str, Any] = {}
    for name, textureless in (("colour", False), ("geo", True)):
        rows = np.flatnonzero(views.held_out & (views.textureless == textureless))
        nouns = [views.nouns[i] for i in views.noun[rows]]
        cut = round(_CROP * views.rgba.shape[1])
        images = on_grey(views.rgba[rows][:, cut:-cut, cut:-cut])
        ranks = judge.ranks(images, nouns)
        figures[f"{name}: renders"] = len(rows)
        figures[f"{name}: top-1, %"] = round(100 * float(np.mean(ranks == 0)), 2)
        figures[f"{name}: top-5, %"] = round(100 * float(np.mean(ranks < 5)), 2)
        azimuth, elevation = (jnp.asarray(x[rows]) for x in (views.azimuth, views.elevation))
        truth = np.asarray(view_index(azimuth, elevation))
        seen = judge.seen_from(images, nouns)
        figures[f"{name}: view word, %"] = round(100 * float(np.mean(seen == truth)), 2)
        for i, word in enumerate(VIEW_WORDS[:3]):
            share = np.mean(seen[truth == i] == i)
            figures[f"{name}: {word}, %"] = round(100 * float(share), 2)
    return figures
