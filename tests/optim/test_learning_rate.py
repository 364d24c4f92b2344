"""The paper's learning rate, point by point."""

import numpy as np
import pytest

from dreamfusion_jax.optim.learning_rate import warmup_cosine


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-9),
        (1500, 0.5 * (1e-9 + 1e-4)),
        (3000, 1e-4),
        (9000, 0.5 * (1e-4 + 1e-6)),
        (15_000, 1e-6),
        (20_000, 1e-6),
    ],
)
def test_paper_values(step, rate):
    assert float(warmup_cosine(15_000)(step)) == pytest.approx(rate, rel=1e-4)


def test_short_runs_end_within_the_warm_up():
    np.testing.assert_allclose(warmup_cosine(100)(100), warmup_cosine(15_000)(100), rtol=1e-6)


def test_no_warm_up_starts_at_the_peak():
    schedule = warmup_cosine(10, peak=1.0, end=0.5, warmup_steps=0)
    np.testing.assert_allclose([schedule(0), schedule(10)], [1.0, 0.5])


def test_negative_numbers_are_named():
    with pytest.raises(ValueError, match="peak must not be negative; got -1"):
        warmup_cosine(10, peak=-1.0)
