"""The ablation table: python launch/ablations.py --workdir=outputs/ablations

Optimizes some nouns under every row of configs/ablations and scores them (`dreamfusion evaluate`).
Repeat the command to go on: what is finished is not made again. Each row gets a folder with its
runs, evaluation.json and gallery.png; the table is printed and written to table.md, and its rows'
first nouns are shown in figure.png.

The figures of the default config; a folder holds runs of one set of settings:
    python launch/ablations.py --rows lighting --held-out --nouns=40 --workdir=outputs/held_out
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from arguments import count, pair

from dreamfusion_jax import api
from dreamfusion_jax.config import config_module, load_config
from dreamfusion_jax.errors import Preempted, UserError
from dreamfusion_jax.export.images import save_png, sheet
from dreamfusion_jax.furniture.splits import HELD_OUT, TUNING
from dreamfusion_jax.prompts.known_nouns import with_article

_CONFIG = config_module("ablations")
CLAIM, ROWS = _CONFIG.CLAIM, _CONFIG.ROWS
_GALLERY = "gallery.png"
_COLUMNS = ("iou", "psnr", "chamfer", "color", "geo", "janus", "minutes")
_HEAD = (
    "silhouette IoU",
    "PSNR, dB",
    "Chamfer",
    "R-Precision color",
    "geo",
    "Janus rate",
    "minutes",
)


def main() -> None:
    """Make what is missing of the table, and prints it after every row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("outputs/ablations"))
    parser.add_argument(
        "--rows", nargs="+", default=[row for row in ROWS if row not in CLAIM], choices=ROWS
    )
    parser.add_argument(
        "--nouns", type=count, default=4, help="so many, the first of furniture/splits.py"
    )
    parser.add_argument(
        "--held-out", action="store_true", help="nouns that nothing was tuned on, not the others"
    )
    parser.add_argument(
        "--set", nargs="*", type=pair, default=[], metavar="KEY=VALUE", help="for every row"
    )
    options = parser.parse_args()
    try:
        known = HELD_OUT if options.held_out else TUNING
        if options.nouns > len(known):
            raise UserError(f"--nouns={options.nouns}: there are {len(known)}.")
        nouns = known[: options.nouns]
        results = {}
        for row in options.rows:
            results[row] = _row(row, options.workdir / row, nouns, dict(options.set))
            text = table(results)
            (options.workdir / "table.md").write_text(text + "\n")
            galleries = [options.workdir / done / _GALLERY for done in results]
            save_png(figure(galleries, len(nouns)), options.workdir / "figure.png")
            print(text, flush=True)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except (Preempted, KeyboardInterrupt):
        print("stopped; repeat the command to go on", file=sys.stderr)
        raise SystemExit(130) from None


def _row(row: str, folder: Path, nouns: list[str], overrides: dict[str, str]) -> dict:
    prompts = [with_article(noun) for noun in nouns]
    config = load_config(f"ablations.{row}")
    runs = api.generate_many(prompts, config, folder, export=False, **overrides)
    out, gallery = folder / "evaluation.json", folder / _GALLERY
    return api.evaluate([run.workdir for run in runs], out, gallery=gallery)


def table(results: dict[str, dict]) -> str:
    """Return the rows' means as Markdown, with the 95 % interval of the IoU."""
    lines = ["| | " + " | ".join(_HEAD) + " |", "|---" * (len(_HEAD) + 1) + "|"]
    for row, result in results.items():
        cells = [_cell(name, result["mean"].get(name)) for name in _COLUMNS]
        low, high = result["interval"]["iou"]
        cells[0] += f" ({low:.2f} to {high:.2f})"
        missing = result["without_surface"]
        cells[2] += f" ({missing} of {len(result['runs'])} have no surface)" if missing else ""
        lines.append(f"| {ROWS[row][0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(galleries: Sequence[Path], nouns: int) -> PIL.Image.Image:
    """Return the true objects, and below them each gallery's results: color left, shape right."""
    first = [np.asarray(PIL.Image.open(path).convert("RGB")) for path in galleries]
    size = first[0].shape[1] // min(nouns, 8)  # a gallery's columns
    ground_truth, color, shape = (
        [gallery[i * size : (i + 1) * size] for gallery in first] for i in range(3)
    )
    rows = [(ground_truth[0], np.full_like(ground_truth[0], 255)), *zip(color, shape, strict=True)]
    return PIL.Image.fromarray(sheet([list(row) for row in rows]))


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in ("color", "geo", "janus"):
        return f"{value:.0%}"
    return f"{value:.1f}" if name in ("psnr", "minutes") else f"{value:.3f}"


if __name__ == "__main__":
    main()
