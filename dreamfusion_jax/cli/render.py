"""`dreamfusion render`."""

import argparse

from dreamfusion_jax.cli.options import add_step, angles, color, words

SUMMARY = "render a video or pictures of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("workdir", help="folder of a run")
    parser.add_argument(
        "--out",
        help=".mp4, .gif or .webp: a video; .png: a sheet; else a folder for PNG files with 16-bit "
        "depth and transforms.json (default: WORKDIR/render.mp4)",
    )
    parser.add_argument(
        "--show",
        type=words,
        help="of color, shaded, textureless, normals, depth, opacity; with commas "
        "(default: color,normals,depth)",
    )
    parser.add_argument(
        "--path",
        help="of the camera: turntable, swing, spiral, or a .json file (default: turntable)",
    )
    parser.add_argument("--frames", type=int, help="of the path (default: 48; 4 in a sheet)")
    parser.add_argument("--size", type=int, help="pixels of each picture (default: 128)")
    parser.add_argument("--elevation", type=float, help="degrees (default: 15)")
    parser.add_argument(
        "--light",
        type=angles,
        help="AZIMUTH,ELEVATION of the light in degrees (default: above the camera)",
    )
    parser.add_argument("--light-color", type=color, help="of the light (default: #b2b2b2)")
    parser.add_argument("--ambient-color", type=color, help="from everywhere (default: #4d4d4d)")
    parser.add_argument("--transparent", action="store_true", help="alpha in place of white")
    parser.add_argument(
        "--fps", dest="frames_per_second", type=int, help="frames a second (default: 16)"
    )
    add_step(parser)


def run(options: argparse.Namespace) -> None:
    """Render a run, and print where."""
    from dreamfusion_jax import api
    from dreamfusion_jax.io import local_path

    how = vars(options)
    out = how.pop("out", "") or local_path(options.workdir) / "render.mp4"
    print(api.render(how.pop("workdir"), out, **how))
