"""How sure a mean is."""

from collections.abc import Sequence

import numpy as np


def bootstrap_interval(values: Sequence[float], draws: int = 2000) -> list[float]:
    """Return the 95 % interval of a mean, by drawing the values again with replacement."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(np.asarray(values, float), (draws, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return [round(float(low), 5), round(float(high), 5)]
