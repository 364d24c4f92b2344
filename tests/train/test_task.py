"""From the paper's config to what the step is compiled for."""

import pytest

from dreamfusion_jax.config import load_config
from dreamfusion_jax.scene.cameras import CameraDistribution
from dreamfusion_jax.scene.fields import MlpField
from dreamfusion_jax.scene.lights import LightDistribution
from dreamfusion_jax.train.task import Task, make_task


@pytest.fixture(scope="module")
def task(ball_prior) -> Task:
    return make_task(load_config("paper"), ball_prior, 4)


def test_each_chip_renders_one_view_of_64_pixels(task):
    assert (task.devices, task.views, task.image_size, task.until) == (4, 1, 64, 15_000)


def test_cameras_lights_and_field_are_those_that_are_tested_by_themselves(task):
    assert task.cameras == CameraDistribution() and not task.own_cameras
    assert task.lights == LightDistribution()
    assert task.scene.field == MlpField(points_per_chunk=task.scene.field.points_per_chunk)


@pytest.mark.parametrize(
    ("step", "blur", "orientation"),
    [(0, 0.05, 1e-4), (2500, 0.026, 5.05e-3), (5000, 2e-3, 1e-2), (15_000, 2e-3, 1e-2)],
)
def test_annealed_numbers(task, step, blur, orientation):
    assert float(task.blur(step)) == pytest.approx(blur, rel=1e-4)
    assert float(task.regularisers.orientation(step)) == pytest.approx(orientation, rel=1e-4)
    assert float(task.guidance.t_max(step)) == pytest.approx(0.98) and task.guidance.t_min == 0.02
    assert float(task.regularisers.entropy(step)) == 0 == task.regularisers.transmittance.weight
