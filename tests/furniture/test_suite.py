import dataclasses
import json

import jax
import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.geometry import normalized_surface_points
from dreamfusion_jax.evaluation.statistics import bootstrap_interval
from dreamfusion_jax.export.images import to_uint8
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.furniture import suite
from dreamfusion_jax.furniture.gallery import write_gallery, write_gallery_page
from dreamfusion_jax.furniture.object_views import GroundTruth
from dreamfusion_jax.furniture.retrieval_evaluator import RetrievalScores
from dreamfusion_jax.scene.fields import MlpField
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.types import CameraLight


@pytest.fixture(scope="module")
def ground_truth(true_images, truth_scene, params):
    """The rendered truth in the form in which the library ships it."""
    v = true_images
    alpha = v.rgba[..., 3:]
    straight = np.concatenate([v.rgba[..., :3] / np.maximum(alpha, 1e-6), alpha], -1)
    points = normalized_surface_points(extract_mesh(truth_scene, params, 48), 0.0)
    return GroundTruth(
        noun="lamp",
        rgba=to_uint8(straight),
        azimuth=np.asarray(v.azimuth, np.float32),
        elevation=np.asarray(v.elevation, np.float32),
        distance=1.5,
        focal=1.1,
        light=CameraLight(ambient=1.0, diffuse=0.0, right=0.3, up=0.8),
        points=points.astype(np.float32),
    )


@pytest.mark.slow
def test_a_turned_and_shrunk_copy_scores_well(ground_truth, turned_scene, params):
    scores = suite.score_scene(turned_scene, params, "lamp", ground_truth)
    assert scores.iou > 0.92 and min(scores.iou_per_view) > 0.85
    assert scores.psnr > 18
    assert scores.chamfer < 0.02
    assert scores.azimuth == pytest.approx(-130, abs=2.5)
    assert scores.scale == pytest.approx(1.25, rel=0.03)


@pytest.fixture
def ball():
    """A scene as it is before any training."""
    scene = NerfScene(field=MlpField(width=8, blocks=1), radius=0.52)
    params = jax.jit(lambda key: scene.init(key))(jax.random.key(0))
    return suite.Candidate("out", "a DSLR photo of a teddy bear", 7, scene, params)


@pytest.mark.slow
def test_scenes_are_scored_by_their_prompt(ball, tmp_path, capsys):
    result = suite.evaluate_furniture([ball], tmp_path / "all.json")
    assert result == json.loads((tmp_path / "all.json").read_text())
    (scored,) = result["runs"]
    assert scored["scores"]["noun"] == "teddy bear" and scored["step"] == 7
    # A ball of the right size covers much of a bear, and is no bear.
    assert 0.4 < scored["scores"]["iou"] < 0.9
    assert result["mean"]["iou"] == result["lowest_iou"] == scored["scores"]["iou"]
    # A picture of the right object from almost the right place is a bar to clear.
    bar = result["nearest_picture"]
    assert bar["iou"] > 0.85 > scored["scores"]["iou"] and 4 < bar["degrees"] < 9
    printed = capsys.readouterr().out
    assert "teddy bear" in printed and f"{result['mean']['iou']:.3f}" in printed


@pytest.mark.slow
def test_gallery_has_four_pictures_a_scene(ball, tmp_path):
    write_gallery([ball, ball, ball], tmp_path / "gallery.png", size=16, columns=2)
    with PIL.Image.open(tmp_path / "gallery.png") as image:
        assert image.size == (32, 2 * 4 * 16)


@pytest.mark.slow
def test_gallery_page_has_the_scores(ball, tmp_path):
    run = suite.RunScores(
        "a", "a table", 1, _scores(0.5, 0.1), RetrievalScores(0.5, 0.25, True), 4.0
    )
    scores = {"runs": [dataclasses.asdict(run)]} | suite.summary([run])
    write_gallery_page([ball], scores, tmp_path / "gallery.html", size=16)
    page = (tmp_path / "gallery.html").read_text()
    for text in ("IoU 0.50", "50% / 25%", "Janus", "teddy bear", "data:image/png;base64,"):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org", "")


def _scores(iou, chamfer):
    return suite.Scores("table", iou, 20.0, 19.0, chamfer, 0.0, 1.0, [iou])


def test_means_leave_out_what_has_no_surface_and_count_it():
    runs = [
        suite.RunScores(
            "a", "a table", 1, _scores(0.5, 0.1), RetrievalScores(0.5, 0.25, True), 4.0
        ),
        suite.RunScores("b", "a lamp", 1, _scores(0.7, None), RetrievalScores(1.0, 0.25, False)),
    ]
    runs[1] = dataclasses.replace(runs[1], scores=dataclasses.replace(runs[1].scores, noun="lamp"))
    result = suite.summary(runs)
    assert result["lowest_iou"] == 0.5 and result["without_surface"] == 1
    bar = {"iou": 0.45, "psnr": 18.0, "degrees": 6.0}
    assert "without a surface: 1 of 2 runs" in suite.table(runs, bar)
    assert result["mean"] == {
        "iou": 0.6,
        "psnr": 20.0,
        "chamfer": 0.1,
        "color": 0.75,
        "geo": 0.25,
        "janus": 0.5,
        "true_color": None,
        "true_janus": None,
        "minutes": 4.0,
    }
    assert result["interval"]["iou"] == [0.5, 0.7] and result["interval"]["geo"] == [0.25, 0.25]
    lines = suite.table(runs, bar).splitlines()
    assert lines[6].split()[:8] == "nearest picture 0.450 18.00 - - - -".split()
    assert lines[3].split() == "mean 0.600 20.00 0.1000 75% 25% 50% 4.0".split()
    assert lines[2].split() == "lamp 0.700 20.00 - 100% 25% 0% - b".split()


def test_seeds_of_a_noun_are_averaged_before_the_interval():
    ious = {"table": (0.5, 0.7), "lamp": (0.8, 1.0)}
    runs = [
        suite.RunScores(
            f"{noun}-{seed}", noun, 1, dataclasses.replace(_scores(iou, 0.1), noun=noun)
        )
        for noun, pair in ious.items()
        for seed, iou in enumerate(pair)
    ]
    result = suite.summary([*runs, runs[0]])
    assert result["interval"]["iou"] == pytest.approx([(0.5 + 0.7 + 0.5) / 3, 0.9], abs=1e-4)


def test_the_interval_of_a_mean_narrows_with_the_number_of_values():
    rng = np.random.default_rng(1)
    few, many = (bootstrap_interval(rng.normal(size=n).tolist()) for n in (10, 1000))
    assert few[0] < 0 < few[1] and many[0] < 0 < many[1]
    assert many[1] - many[0] == pytest.approx(4 / 1000**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("prompt", "noun"),
    [
        ("a teddy bear", "teddy bear"),
        ("A DSLR photo of a Table.", "table"),
        ("a coffee table with a bear", "coffee table"),
        ("a bear on a coffee table", "bear"),
        ("a comfy settee", "sofa"),
    ],
)
def test_noun_is_the_longest_of_the_first_phrase(prompt, noun):
    known = {n: n for n in ("bear", "teddy bear", "table", "coffee table", "able")}
    known["settee"] = "sofa"
    assert suite.find_noun(prompt, known) == noun


def test_unknown_nouns_and_no_runs_are_sentences():
    with pytest.raises(UserError, match="tablet.*table"):
        suite.find_noun("a tablet", {"table": "table"})
    with pytest.raises(UserError, match="nothing to evaluate"):
        suite.evaluate_furniture([])
