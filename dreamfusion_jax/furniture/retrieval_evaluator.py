"""The retrieval evaluator: does a render show what the prompt says, and from where?

It is asked for R-Precision and for Janus faces.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.renders import EvalCameras, ViewConfig, scene_renders
from dreamfusion_jax.evaluation.retrieval import RetrievalModel
from dreamfusion_jax.furniture.evaluator_views import EvaluatorViews
from dreamfusion_jax.furniture.object_views import GroundTruth, load_ground_truth
from dreamfusion_jax.furniture.object_views import nouns as shipped_nouns
from dreamfusion_jax.furniture.shipped import asset_folder
from dreamfusion_jax.io import read_json
from dreamfusion_jax.models.dual_encoder import DualEncoder
from dreamfusion_jax.prompts.known_nouns import with_article
from dreamfusion_jax.prompts.view_prompts import VIEW_WORDS, view_index
from dreamfusion_jax.scene.base import FINISHED, Scene

BACKGROUND = 0.5  # a gray, on which white and black objects are seen
_CROP = 7 / 64  # of each side: the evaluator learnt from pictures that are cut as closely
ZOOM = 1 / (1 - 2 * _CROP)
# The library's held-out views have these azimuths, and so have the renders of a result.
_AROUND = EvalCameras(azimuths=8, elevation=30.0, first=22.5)
_RARELY = 0.7
_SIDES = (2, 4, 5)  # 112.5, 202.5 and 247.5 degrees: a side or the back, none near the front


@dataclasses.dataclass(frozen=True)
class RetrievalScores:
    """What the retrieval evaluator says of one result.

    `color` and `geo` are the shares of views, shaded and textureless, of which it ranks the
    right noun first among all nouns; `janus`: it takes a side or the back, seen from 112.5, 202.5
    or 247.5 degrees, for a front.
    `true_color` and `true_janus` are what it says of the true object's pictures, the best that
    can be asked for: many objects look alike from several sides.
    """

    color: float
    geo: float
    janus: bool
    true_color: float | None = None
    true_janus: bool | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalEvaluator:
    """An image-text dual encoder and the nouns that it tells apart."""

    encoder: DualEncoder
    nouns: tuple[str, ...]

    @classmethod
    def load(cls, folder: pathlib.Path | None = None) -> "RetrievalEvaluator":
        """Read what `train-evaluator` wrote, by default the shipped one.

        Raises:
          UserError: it is missing or damaged.
        """
        folder = folder or asset_folder("evaluator")
        encoder = DualEncoder.load(folder)
        nouns = read_json(folder / "config.json").get("nouns")
        if not (isinstance(nouns, list) and nouns and all(isinstance(n, str) for n in nouns)):
            raise UserError(
                f"{folder} is no folder of a retrieval evaluator: its config.json has no nouns."
            )
        return cls(encoder, tuple(nouns))

    @functools.cached_property
    def _noun_vectors(self) -> Float[np.ndarray, "nouns width"]:
        return self.encoder.texts([with_article(noun) for noun in self.nouns])

    def ranks(
        self, images: Float[np.ndarray, "n h w 3"], noun: str | Sequence[str]
    ) -> Int[np.ndarray, "n"]:
        """Return the rank, from 0, of each image's noun among all nouns. Images in [0, 1]."""
        wanted = [noun] * len(images) if isinstance(noun, str) else list(noun)
        position = {noun: i for i, noun in enumerate(self.nouns)}
        logits = self.encoder.images(images) @ self._noun_vectors.T
        own = logits[np.arange(len(images)), [position[noun] for noun in wanted]]
        return (~(logits <= own[:, None])).sum(1)  # what is not a number comes last

    def seen_from(
        self,
        images: Float[np.ndarray, "n h w 3"],
        noun: str | Sequence[str],
        words: Sequence[str] = VIEW_WORDS,
    ) -> Int[np.ndarray, "n"]:
        """Return which of some view words fits each image best."""
        wanted = [noun] * len(images) if isinstance(noun, str) else list(noun)
        different = {n: i for i, n in enumerate(dict.fromkeys(wanted))}
        texts = [f"{with_article(n)}, {word}" for n in different for word in words]
        vectors = self.encoder.texts(texts).reshape(len(different), len(words), -1)
        own = vectors[[different[n] for n in wanted]]
        return np.einsum("nd,nvd->nv", self.encoder.images(images), own).argmax(1)


def embedded_retrieval_model() -> RetrievalModel:
    """Return the shipped evaluator as a model for R-Precision among the nouns of the library."""
    captions = tuple(with_article(noun) for noun in shipped_nouns())
    return RetrievalModel(RetrievalEvaluator.load().encoder, captions, ZOOM, BACKGROUND)


def retrieve_scene(
    evaluator: RetrievalEvaluator,
    scene: Scene,
    params: dict,
    noun: str,
    look: ViewConfig,
    *,
    step: int = FINISHED,
) -> RetrievalScores:
    """Ask the retrieval evaluator about renders of a scene.

    Args:
      evaluator: whom to ask.
      scene: modules and sampling numbers.
      params: the scene's parameters.
      noun: what the scene should show, one of the evaluator's nouns.
      look: how it is shown.
      step: of the run, for what is annealed.
    """
    size, close = evaluator.encoder.image_size, dataclasses.replace(look, focal=look.focal * ZOOM)
    shown = scene_renders(
        scene, params, close, size, step=step, around=_AROUND, background=BACKGROUND
    )
    color, geo = (np.mean(evaluator.ranks(shown[kind], noun) == 0) for kind in ("color", "geo"))
    return RetrievalScores(float(color), float(geo), _is_janus(evaluator, shown["color"], noun))


def _is_janus(
    evaluator: RetrievalEvaluator, images: Float[np.ndarray, "8 h w 3"], noun: str
) -> bool:
    """Return whether the evaluator takes a side or the back for the front, of all of _AROUND."""
    seen = evaluator.seen_from(images[list(_SIDES)], noun, VIEW_WORDS[:3])
    return bool((seen == VIEW_WORDS.index("front view")).any())


def retrieve_ground_truth(
    evaluator: RetrievalEvaluator, ground_truth: GroundTruth
) -> tuple[float, bool]:
    """Return the share of an object's true pictures that show its noun, and if it seems a Janus."""
    images = close_up(on_gray(ground_truth.rgba))
    found = np.mean(evaluator.ranks(images, ground_truth.noun) == 0)
    raised = np.isclose(ground_truth.elevation, np.radians(_AROUND.elevation), atol=1e-3)
    azimuths = np.radians(_AROUND.first) + 2 * np.pi * np.arange(_AROUND.azimuths) / 8
    around = [
        int(np.flatnonzero(raised & np.isclose(ground_truth.azimuth, azimuth, atol=1e-3))[0])
        for azimuth in azimuths
    ]
    return float(found), _is_janus(evaluator, images[around], ground_truth.noun)


def on_gray(rgba: UInt8[np.ndarray, "n h w 4"]) -> Float[np.ndarray, "n h w 3"]:
    """Return cut-out pictures over the evaluator's background, in [0, 1]."""
    rgba = rgba.astype(np.float32) / 255
    return rgba[..., :3] * rgba[..., 3:] + BACKGROUND * (1 - rgba[..., 3:])


def close_up(images: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n crop crop 3"]:
    """Return the middle of whole views, where objects are as large as the evaluator knows them."""
    cut = round(_CROP * images.shape[1])
    return images[:, cut:-cut, cut:-cut]


def check_object_views(evaluator: RetrievalEvaluator) -> dict[str, Any]:
    """Return what the evaluator makes of the library's true objects: how far it can be trusted.

    Top-1 and top-5 retrieval of all held-out views (`load_ground_truth`), the share of objects
    that it takes for a Janus, and those that it finds in less than 70 % of their views.
    """
    truths = [load_ground_truth(noun) for noun in evaluator.nouns if noun in shipped_nouns()]
    ranks = [
        evaluator.ranks(close_up(on_gray(ground_truth.rgba)), ground_truth.noun)
        for ground_truth in truths
    ]
    shares = {
        ground_truth.noun: np.mean(r == 0) for ground_truth, r in zip(truths, ranks, strict=True)
    }
    janus = [retrieve_ground_truth(evaluator, true)[1] for true in truths]
    together = np.concatenate(ranks)
    return {
        "library: renders": len(together),
        "library: top-1, %": _percent(together == 0),
        "library: top-5, %": _percent(together < 5),
        "library: Janus, %": _percent(janus),
        "library: found rarely": ", ".join(n for n, share in shares.items() if share < _RARELY),
    }


def check_evaluator(evaluator: RetrievalEvaluator, views: EvaluatorViews) -> dict[str, Any]:
    """Return top-1 retrieval and view accuracy on true renders that were not learnt from.

    View accuracy counts front, side and back apart; objects that look alike from several sides
    are among them. Objects that the evaluator does not know are left out.
    """
    known = np.array([noun in evaluator.nouns for noun in views.nouns])[views.noun]
    figures: dict[str, Any] = {}
    for name, textureless in (("color", False), ("geo", True)):
        rows = np.flatnonzero(known & views.held_out & (views.textureless == textureless))
        nouns = [views.nouns[i] for i in views.noun[rows]]
        images = close_up(on_gray(views.rgba[rows]))
        ranks = evaluator.ranks(images, nouns)
        figures[f"{name}: renders"] = len(rows)
        figures[f"{name}: top-1, %"] = _percent(ranks == 0)
        figures[f"{name}: top-5, %"] = _percent(ranks < 5)
        azimuth, elevation = (jnp.asarray(x[rows]) for x in (views.azimuth, views.elevation))
        ground_truth = np.asarray(view_index(azimuth, elevation))
        seen = evaluator.seen_from(images, nouns)
        figures[f"{name}: view word, %"] = _percent(seen == ground_truth)
        for i, word in enumerate(VIEW_WORDS[:3]):
            figures[f"{name}: {word}, %"] = _percent(seen[ground_truth == i] == i)
    return figures


def _percent(hits: Sequence[bool] | np.ndarray) -> float:
    return round(100 * float(np.mean(hits)), 2)
