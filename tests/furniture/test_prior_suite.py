import json

import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.diffusion.empirical import Caption, EmpiricalPrior
from dreamfusion_jax.furniture import prior_suite as quality
from dreamfusion_jax.furniture.retrieval_evaluator import RetrievalEvaluator

NOUNS = ("teddy bear", "fire hydrant")


def test_frechet_distance_is_that_of_gaussians():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20_000, 3))
    b = 2 * rng.normal(size=(20_000, 3)) + np.array([1.0, 0, 0])
    assert quality.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    # |mean difference|^2 + sum (1 - 2)^2
    assert quality.frechet_distance(a, b) == pytest.approx(4.0, abs=0.15)


def test_main_color_is_that_of_the_middle():
    image = np.zeros((16, 16, 3), np.float32)
    image[4:12, 4:12, 2] = 0.9
    assert quality.main_color(image) == "blue"


@pytest.mark.parametrize("nouns", [2, 24, 128])
def test_few_samples_ask_for_every_word_and_many_for_every_word_of_every_noun(nouns):
    words = ("front view", "side view", "back view")
    assert set(quality.each_word(words, nouns, 32)) == set(words)  # the fewest that are taken
    asked = quality.each_word(words, nouns, 3 * nouns)
    assert {(i % nouns, word) for i, word in enumerate(asked)} == {
        (noun, word) for noun in range(nouns) for word in words
    }


@pytest.fixture(scope="module")
def seen():
    return quality.renders(NOUNS, 16, held_out=False)


def test_renders_are_captioned_by_their_cameras(seen):
    unseen = quality.renders(NOUNS, 16, held_out=True)
    assert len(seen.rgba) == 288 and len(unseen.rgba) == 32
    assert set(seen.views) == {"front view", "side view", "back view", "overhead view"}
    assert "overhead view" not in unseen.views
    assert unseen.prompts()[0] == f"a photo of a teddy bear, {unseen.views[0]}"
    images = seen.on_colors(0)
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_array_equal(images, seen.on_colors(0))


@pytest.mark.slow
def test_a_denoiser_of_half_the_pictures_scores_as_it_should(seen, tmp_path, capsys):
    captions = [Caption(n, (), (v,)) for n, v in zip(seen.nouns, seen.views, strict=True)]
    prior = EmpiricalPrior.from_images(seen.rgba[::2], captions[::2])
    figures = quality.evaluate_prior(
        prior,
        NOUNS,
        RetrievalEvaluator.load(),
        samples=32,
        images=16,
        steps=8,
        guidance_weight=0.0,
        out=tmp_path / "prior.json",
        sample_sheet=tmp_path / "sheet.png",
    )
    assert json.loads((tmp_path / "prior.json").read_text()) == figures
    errors = figures["denoising error"]
    # It has seen only half of what the optimal one knows.
    assert errors["prior, training views"]["0.1"] > 2 * errors["optimal, training views"]["0.1"]
    held_out = errors["prior, held-out views"]
    assert [*held_out] == [str(t) for t in quality.TIMES] and all(
        0 < e < 1 for e in held_out.values()
    )
    assert 0 <= figures["frechet distance"] < 2
    # Pictures of 16 pixels are few, but those of two unlike objects; their prior draws both.
    assert figures["retrieval of true renders, %"] > 80 and figures["retrieval, top 5, %"] > 80
    assert PIL.Image.open(tmp_path / "sheet.png").size == (8 * 16, 4 * 16)
    assert "color accuracy" in capsys.readouterr().out
