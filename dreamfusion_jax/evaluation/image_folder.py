"""Folders of pictures whose names say which caption each shows."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.retrieval import KINDS, ResultImages
from dreamfusion_jax.io import read_image
from dreamfusion_jax.prompts.text import slug

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def has_images(folder: Path) -> bool:
    """Return whether a folder holds pictures, at any depth, and no runs (theirs are previews)."""
    found = any(path.suffix.lower() in _SUFFIXES for path in folder.rglob("*"))
    return found and not any(folder.rglob("config.json"))


def read_images(
    folder: Path, captions: Sequence[str], background: float = 1.0
) -> Iterator[ResultImages]:
    """Return the pictures of a folder by caption; transparent ones are laid on a gray, 1 for white.

    A picture's name, without a number at its end, or its folder's name is the slug of its
    caption: a-red-fire-hydrant-003.png, or a-red-fire-hydrant/003.png. Below folders called
    color, albedo and geo are pictures of these kinds; others count as color.

    Raises:
      UserError: a picture belongs to no caption, cannot be read, or has another size than the
        others of its caption.
    """
    slugs = {slug(caption): caption for caption in captions}
    if len(slugs) < len(captions):
        raise UserError(
            f"{len(captions) - len(slugs)} of the captions are so alike that pictures cannot be "
            "named after them."
        )
    found: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        kind, *rest = path.relative_to(folder).parts
        kind, rest = (kind, rest) if kind in KINDS and rest else ("color", [kind, *rest])
        caption = _caption_of(path, [folder.name, *rest], slugs)
        found.setdefault(caption, {}).setdefault(kind, []).append(path)
    for caption, kinds in found.items():
        ordered = {kind: _read(kinds[kind], background) for kind in KINDS if kind in kinds}
        yield ResultImages(str(folder), caption, ordered)


def _caption_of(path: Path, parts: Sequence[str], slugs: dict[str, str]) -> str:
    stem = Path(parts[-1]).stem
    names = [stem, re.sub(r"[-_ ]?\d+$", "", stem), *reversed(parts[:-1])]
    for name in names:
        if slug(name) in slugs:
            return slugs[slug(name)]
    raise UserError(
        f"{path} belongs to none of the {len(slugs)} captions: name it, or its folder, like "
        f"{next(iter(slugs))}-001.png."
    )


def _read(paths: Sequence[Path], background: float) -> Float[np.ndarray, "n h w 3"]:
    images = []
    for path in paths:
        try:
            rgba = read_image(path).astype(np.float32) / 255
        except (OSError, ValueError) as error:
            raise UserError(f"The picture {path} cannot be read ({error}).") from error
        alpha = rgba[..., 3:]
        images.append(alpha * rgba[..., :3] + (1 - alpha) * background)
        if images[-1].shape != images[0].shape:
            raise UserError(f"{path} has another size than {paths[0].name}; give both the same.")
    return np.stack(images)
