"""Color words of pictures, and copies of pictures in another color."""

import numpy as np
from jaxtyping import Float, UInt8

from dreamfusion_jax.prompts.known_nouns import COLOR_WORDS

# Hues in degrees at which one word ends and the next begins.
_HUES = (
    *((15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (255, "blue")),
    *((290, "purple"), (335, "pink"), (361, "red")),
)
CENTER_HUE = dict(zip(COLOR_WORDS, (0, 28, 54, 120, 220, 275), strict=True))
WORDS = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige", "black"),
    *("white", "grey"),
)
CLEAR_SHARE = 0.5


def dominant_color(rgba: UInt8[np.ndarray, "*batch height width 4"]) -> str:
    """Return the word for the color of most of the object, "" where no color is clearly ahead.

    Pixels count by their alpha; the leading word needs half of them.
    """
    pixels = rgba.reshape(-1, 4).astype(np.float32) / 255
    pixels = pixels[pixels[:, 3] > 0.5]
    if not len(pixels):
        return ""
    names, counts = np.unique(color_words(pixels[:, :3]), return_counts=True)
    best = counts.argmax()
    return str(names[best]) if counts[best] >= CLEAR_SHARE * len(pixels) else ""


def color_words(rgb: Float[np.ndarray, "n 3"]) -> np.ndarray:
    """Return one of WORDS for each color in [0, 1], by thresholds on hue, saturation and value."""
    hue, saturation, value = rgb_to_hsv(rgb)
    words = np.full(len(rgb), "red", dtype="U8")
    for end, name in reversed(_HUES):
        words[hue < end] = name
    words[((hue < 50) | (hue > 345)) & (hue > 12) & (value < 0.6)] = "brown"
    words[(hue > 12) & (hue < 50) & (value < 0.72) & (saturation < 0.65)] = "brown"
    words[(hue > 15) & (hue < 65) & (value >= 0.6) & (saturation < 0.42)] = "beige"
    words[(words == "red") & (value > 0.75) & (saturation < 0.5)] = "pink"
    plain = (saturation < 0.15) | (saturation * value < 0.07)
    words[plain] = "grey"
    words[plain & (value > 0.74)] = "white"
    words[(value < 0.2) | (plain & (value < 0.27))] = "black"
    return words


def recolored(
    rgba: UInt8[np.ndarray, "height width 4"], word: str
) -> UInt8[np.ndarray, "height width 4"] | None:
    """Return a copy whose dominant color is `word` (a key of CENTER_HUE); None if it has none.

    Lightness stays, and so do grays where the rest is most of the object. Differences of hue
    shrink to a fifth, so that a trace of the pattern remains.
    """
    hue, saturation, value = rgb_to_hsv(rgba[..., :3].reshape(-1, 3).astype(np.float32) / 255)
    colored = saturation * value > 0.1
    angle = np.radians(hue[colored])
    middle = np.degrees(np.arctan2(np.sin(angle).sum(), np.cos(angle).sum()))
    offset = np.where(colored, (hue - middle + 180) % 360 - 180, 0)
    floor = 0.6 if word in ("orange", "yellow") else 0.3  # darker ones are brown or black
    tint = (
        (CENTER_HUE[word] + 0.2 * offset) % 360,
        np.maximum(saturation, 0.6),
        np.maximum(value, floor + (1 - floor) * value**2),
    )
    for where in (colored, True):
        pairs = zip(tint, (hue, saturation, value), strict=True)
        rgb = hsv_to_rgb(*(np.where(where, new, old) for new, old in pairs))
        out = rgba.copy()
        out[..., :3] = np.clip(255 * rgb + 0.5, 0, 255).reshape(*rgba.shape[:-1], 3)
        if dominant_color(out) == word:
            return out
    return None


def rgb_to_hsv(rgb: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hue in degrees [0, 360), saturation and value in [0, 1]."""
    value, low = rgb.max(1), rgb.min(1)
    chroma = value - low
    safe = np.maximum(chroma, 1e-9)
    red, green, blue = rgb.T
    hue = np.where(value == red, ((green - blue) / safe) % 6, 0)
    hue = np.where((value == green) & (value != red), (blue - red) / safe + 2, hue)
    hue = np.where(
        (value == blue) & (value != red) & (value != green), (red - green) / safe + 4, hue
    )
    return 60 * hue, chroma / np.maximum(value, 1e-9), value


def hsv_to_rgb(
    hue: np.ndarray, saturation: np.ndarray, value: np.ndarray
) -> Float[np.ndarray, "n 3"]:
    """Return the inverse of `rgb_to_hsv`."""
    k = (np.array([5.0, 3.0, 1.0]) + hue[:, None] / 60) % 6
    ramp = np.clip(np.minimum(k, 4 - k), 0, 1)
    return value[:, None] * (1 - saturation[:, None] * ramp)
