"""From the paper's config to what the step is compiled for."""

import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.scene.cameras import CameraDistribution
from dreamfusion_jax.scene.fields import MlpField
from dreamfusion_jax.scene.lights import LightDistribution
from dreamfusion_jax.train.stage import Stage, make_stage


@pytest.fixture(scope="module")
def stage(ball_prior) -> Stage:
    return make_stage(load_config("paper"), ball_prior, 4)


def test_each_chip_renders_one_view_of_64_pixels(stage):
    assert (stage.devices, stage.views, stage.image_size, stage.until) == (4, 1, 64, 15_000)


def test_cameras_lights_and_field_are_those_that_are_tested_by_themselves(stage):
    assert stage.cameras == CameraDistribution() and not stage.own_cameras
    assert stage.lights == LightDistribution()
    assert stage.scene.field == MlpField(points_per_chunk=stage.scene.field.points_per_chunk)


@pytest.mark.parametrize(
    ("step", "blur", "orientation"),
    [(0, 0.05, 1e-4), (2500, 0.026, 5.05e-3), (5000, 2e-3, 1e-2), (15_000, 2e-3, 1e-2)],
)
def test_annealed_numbers(stage, step, blur, orientation):
    assert float(stage.scene.lambda_sigma(step)) == pytest.approx(blur, rel=1e-4)
    regularizers = dict(stage.regularizers)
    assert float(regularizers["orientation"](step)) == pytest.approx(orientation, rel=1e-4)
    assert float(stage.guidance.t_max(step)) == pytest.approx(0.98) and stage.guidance.t_min == 0.02
    assert list(regularizers) == ["orientation", "opacity"]  # the others have no weight
