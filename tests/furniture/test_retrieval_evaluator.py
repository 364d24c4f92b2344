import json

import jax
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.renders import ViewConfig
from dreamfusion_jax.furniture.object_views import load_ground_truth, nouns
from dreamfusion_jax.furniture.retrieval_evaluator import (
    RetrievalEvaluator,
    on_gray,
    retrieve_ground_truth,
    retrieve_scene,
)
from dreamfusion_jax.furniture.scoring import evaluate_retrieval_evaluator
from dreamfusion_jax.furniture.shipped import asset_folder
from dreamfusion_jax.scene.fields import MlpField
from dreamfusion_jax.scene.nerf import NerfScene

SOME = nouns()[::4]


@pytest.fixture(scope="module")
def evaluator():
    return RetrievalEvaluator.load()


@pytest.fixture(scope="module")
def truths():
    """True renders over gray, cut as the evaluator wants them, and their nouns."""
    images, names = [], []
    for noun in SOME:
        images.append(on_gray(load_ground_truth(noun).rgba[:, 14:-14, 14:-14]))
        names += [noun] * len(images[-1])
    return np.concatenate(images), names


def test_it_knows_the_library(evaluator):
    assert evaluator.nouns == nouns()
    size = sum(
        path.stat().st_size for path in asset_folder("evaluator").iterdir() if path.suffix != ".md"
    )
    assert size <= 8e6


def test_it_finds_true_objects_among_all_nouns(evaluator, truths):
    ranks = evaluator.ranks(*truths)
    assert np.mean(ranks == 0) > 0.95 and np.mean(ranks < 5) > 0.99


@pytest.mark.slow
def test_the_suite_reports_all_of_the_library(tmp_path):
    figures = evaluate_retrieval_evaluator(tmp_path / "evaluator.json")
    assert figures == json.loads((tmp_path / "evaluator.json").read_text())
    assert figures["library: renders"] == 128 * 16
    assert figures["library: top-1, %"] > 97 and figures["library: top-5, %"] > 99.5
    assert 15 < figures["library: Janus, %"] < 30  # round objects have no front
    assert "bicycle" in figures["library: found rarely"]


def test_it_is_not_fooled_by_another_name(evaluator, truths):
    images, names = truths
    assert np.mean(evaluator.ranks(images, names[::-1]) == 0) < 0.2


@pytest.mark.parametrize("noun", ["laptop", "microwave", "washing machine", "radio"])
def test_it_tells_fronts_from_backs(evaluator, noun):
    """Of objects whose back is another than their front."""
    ground_truth = load_ground_truth(noun)
    images = on_gray(ground_truth.rgba[:, 14:-14, 14:-14])
    seen = evaluator.seen_from(images, noun, ("front view", "back view"))
    front, back = np.cos(ground_truth.azimuth) > 0.7, np.cos(ground_truth.azimuth) < -0.7
    assert np.mean(seen[front] == 0) > 0.7 and np.mean(seen[back] == 1) > 0.7


def test_what_it_says_of_truth_bounds_what_can_be_asked_for(evaluator):
    said = {
        noun: retrieve_ground_truth(evaluator, load_ground_truth(noun))
        for noun in ("microwave", "snowman")
    }
    assert min(color for color, _ in said.values()) > 0.7
    assert [janus for _, janus in said.values()] == [False, True]  # a snowman is round


@pytest.mark.slow
def test_a_ball_of_fog_is_no_teddy_bear(evaluator):
    scene = NerfScene(field=MlpField(width=8, blocks=1), radius=0.52)
    params = jax.jit(lambda key: scene.init(key))(jax.random.key(0))
    retrieval_scores = retrieve_scene(
        evaluator, scene, params, "teddy bear", ViewConfig(1.5, 1.25, 0.7, 0.4)
    )
    assert retrieval_scores.color < 0.5 and retrieval_scores.geo < 0.5


def test_a_missing_evaluator_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no folder of a dual encoder"):
        RetrievalEvaluator.load(tmp_path)
