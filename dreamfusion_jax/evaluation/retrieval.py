"""R-Precision: how often a model ranks the caption of a render first among all captions.

Park et al. 2021; with CLIP as in Dream Fields (Jain et al. 2022, section 4) and in Table 1 of
DreamFusion.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.statistics import bootstrap_interval
from dreamfusion_jax.io import write_json
from dreamfusion_jax.models.image_text import ImageTextModel
from dreamfusion_jax.prompts.prompt_files import caption_key

KINDS = ("color", "albedo", "geo")  # shaded, unshaded, textureless


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalModel:
    """An image-text model, and how it wants results to be shown.

    Others than CLIP are registered with `@register("retrieval_model", NAME)`, a function without
    arguments. `captions` are those that it is for; `zoom` multiplies the focal length, and
    `background` is the gray behind objects.
    """

    model: ImageTextModel
    captions: tuple[str, ...] = ()
    zoom: float = 1.0
    background: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class ResultImages:
    """The pictures of one result, by kind, in [0, 1]; where they come from, and its seed."""

    source: str
    caption: str
    images: Mapping[str, Float[np.ndarray, "n h w 3"]]
    seed: int | None = None


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """How one result is found: the rank from 0 of its caption for each picture of each kind.

    `taken_for` is the caption that fits its first kind of pictures best, over all of them.
    """

    source: str
    caption: str
    seed: int | None
    ranks: dict[str, list[int]]
    taken_for: str

    def shares(self) -> dict[str, float]:
        """Return the share of pictures whose own caption comes first, by kind."""
        return {kind: float(np.mean(np.array(r) == 0)) for kind, r in self.ranks.items()}


def evaluate_retrieval(
    model: ImageTextModel,
    captions: Sequence[str],
    shown: Iterable[ResultImages],
    *,
    about: Mapping[str, Any],
    out: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Rank all captions for every picture, print a table and write one JSON file.

    Args:
      model: of pictures and texts.
      captions: all of them, of which each result has one.
      shown: the results; each is asked for when its turn comes.
      about: what the JSON says of the model, the renders and the captions.
      out: the JSON file; None writes none.

    Returns:
      What the JSON holds: {"suite", "about", "captions", "runs": [...], "prompts": {...},
      "mean": {kind: share}, "interval": {kind: [low, high]}}. Means are over captions, after
      those over the seeds and pictures of each; so are the intervals (95 %, bootstrap).

    Raises:
      UserError: there is nothing to rank, or a result's caption is not among the captions.
    """
    texts = model.texts(list(captions))
    runs = []
    for result in shown:
        own = find_caption(result.caption, captions, result.source)
        runs.append(_retrieve(model, captions, texts, own, result))
    if not runs:
        raise UserError("There is nothing to rank: give folders of runs or of pictures.")
    prompts = by_prompt(runs)
    means, intervals = {}, {}
    for kind in [kind for kind in KINDS if any(kind in row for row in prompts.values())]:
        values = [row[kind] for row in prompts.values() if kind in row]
        means[kind], intervals[kind] = float(np.mean(values)), bootstrap_interval(values)
    listed = [dataclasses.asdict(run) | {"shares": run.shares()} for run in runs]
    figures: dict[str, Any] = {"suite": "clip", "about": dict(about)}
    figures |= {"captions": len(captions), "runs": listed}
    figures |= {"prompts": prompts, "mean": means, "interval": intervals}
    print(retrieval_table(figures))
    if out is not None:
        write_json(out, figures)
    return figures


def find_caption(prompt: str, captions: Sequence[str], source: str) -> int:
    """Return a prompt's place among the captions; a UserError names its source if it has none."""
    keys = [caption_key(caption) for caption in captions]
    if caption_key(prompt) not in keys:
        raise UserError(
            f"The prompt {prompt!r} of {source} is not among the {len(captions)} captions; give "
            "the file that it comes from."
        )
    return keys.index(caption_key(prompt))


def _retrieve(
    model: ImageTextModel,
    captions: Sequence[str],
    texts: Float[np.ndarray, "captions width"],
    own: int,
    result: ResultImages,
) -> Retrieval:
    vectors = {kind: model.images(images) for kind, images in result.images.items()}
    ranked = {kind: ranks(found, texts, own).tolist() for kind, found in vectors.items()}
    best = int((next(iter(vectors.values())) @ texts.T).mean(0).argmax())
    return Retrieval(result.source, captions[own], result.seed, ranked, captions[best])


def ranks(
    images: Float[np.ndarray, "n width"], texts: Float[np.ndarray, "captions width"], own: int
) -> Int[np.ndarray, "n"]:
    """How many captions fit each image better than its own, or as well but come before it."""
    fits = images @ texts.T
    better = ~(fits <= fits[:, [own]])  # what is not a number fits nothing
    equal = (fits == fits[:, [own]]) & (np.arange(len(texts)) < own)
    return (better | equal).sum(1)


def by_prompt(runs: Sequence[Retrieval]) -> dict[str, dict[str, float]]:
    """Return the mean share of each caption's runs (seeds), by kind."""
    found: dict[str, dict[str, float]] = {}
    for caption in dict.fromkeys(run.caption for run in runs):
        rows = [run.shares() for run in runs if run.caption == caption]
        kinds = [kind for kind in KINDS if all(kind in row for row in rows)]
        found[caption] = {kind: float(np.mean([row[kind] for row in rows])) for kind in kinds}
    return found


def retrieval_table(result: Mapping[str, Any]) -> str:
    """Return R-Precision of every caption, then means and 95 % intervals, in per cent."""
    kinds = list(result["mean"])
    lines = [f"{'R-Precision, %':<42}" + "".join(f"{kind:>9}" for kind in kinds) + "  taken for"]
    for caption, row in result["prompts"].items():
        own = [run for run in result["runs"] if run["caption"] == caption]
        wrong = dict.fromkeys(r["taken_for"] for r in own if r["taken_for"] != caption)
        cells = (f"{100 * row[kind]:>9.1f}" if kind in row else f"{'-':>9}" for kind in kinds)
        lines.append(
            f"{_cut(caption, 40):<42}{''.join(cells)}  {_cut(', '.join(wrong), 40)}".rstrip()
        )
    about = f"mean of {len(result['prompts'])} among {result['captions']}"
    lines.append(f"{about:<42}" + "".join(f"{100 * result['mean'][k]:>9.1f}" for k in kinds))
    for i, label in enumerate(("  95 % from", "  95 % to")):
        ends = (f"{100 * result['interval'][kind][i]:>9.1f}" for kind in kinds)
        lines.append(f"{label:<42}{''.join(ends)}")
    return "\n".join(lines)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
