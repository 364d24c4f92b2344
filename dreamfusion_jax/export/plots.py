"""Curves as inline SVG that takes its colors from the page."""

import html
import math
from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT = 420, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 28, 24


def line_chart(title: str, steps: Sequence[float | int], values: Sequence[float | int]) -> str:
    """Return one curve over the steps: the values faint, their running mean strong.

    The axis is logarithmic where positive values span more than two decades. Values
    that are not finite are left out; "" where fewer than two remain.
    """
    x, y = np.asarray(steps, float), np.asarray(values, float)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) < 2:
        return ""
    logarithmic = bool(y.min() > 0 and y.max() > 100 * y.min())
    shown = np.log10(y) if logarithmic else y
    low, high = float(shown.min()), float(shown.max())
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    across = _LEFT + (x - x[0]) / max(x[-1] - x[0], 1e-12) * (_WIDTH - _LEFT - _RIGHT)

    def up(v):
        return _HEIGHT - _BOTTOM - (v - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    ticks = [(t, f"{10**t:.2g}" if logarithmic else f"{t:.4g}") for t in _ticks(low, high)]
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<text class="title" x="{_LEFT}" y="16">{html.escape(title)}</text>'
    ]
    for value, label in ticks:
        h = up(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{h:.1f}" y2="{h:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{h + 3.5:.1f}" text-anchor="end">{label}</text>'
        )
    for position, anchor in ((0, "start"), (-1, "end")):
        parts.append(
            f'<text class="tick" x="{across[position]:.1f}" y="{_HEIGHT - 7}" '
            f'text-anchor="{anchor}">step {x[position]:g}</text>'
        )
    parts.append(f'<path class="raw" d="{_path(across, up(shown))}"/>')
    parts.append(f'<path class="mean" d="{_path(across, up(_running_mean(shown)))}"/></svg>')
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers inside the range."""
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (5, 2, 1) if power * m <= rough * (1 + 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _running_mean(values: np.ndarray) -> np.ndarray:
    width = max(1, len(values) // 12)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    end = np.minimum(np.arange(len(values)) + width // 2 + 1, len(values))
    start = np.maximum(np.arange(len(values)) - width // 2, 0)
    return (sums[end] - sums[start]) / (end - start)


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
