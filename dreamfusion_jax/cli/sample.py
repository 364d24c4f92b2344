"""`dreamfusion sample`."""

import argparse

SUMMARY = "draw images from a prior: ancestral sampling beside SDS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("prompt", help='for example "a teddy bear, front view"')
    parser.add_argument("--prior", help="name or folder of the prior (default: embedded)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of a network's parameters and computation (default: float32)",
    )
    parser.add_argument(
        "--method",
        choices=("both", "ancestral", "ddim", "sds"),
        help="both: ancestral above SDS (default: both)",
    )
    parser.add_argument("--count", type=int, help="images of each kind (default: 4)")
    parser.add_argument(
        "--size",
        type=int,
        help="pixels of furniture-views, a divisor of 64 (default: 32); networks have their own",
    )
    parser.add_argument("--steps", type=int, help="sampling steps (default: 64)")
    parser.add_argument("--sds-steps", type=int, help="SDS steps (default: 300)")
    parser.add_argument(
        "--guidance",
        dest="guidance_weight",
        metavar="OMEGA",
        type=float,
        help="of the samplers (default: 3)",
    )
    parser.add_argument(
        "--sds-guidance",
        dest="sds_guidance_weight",
        metavar="OMEGA",
        type=float,
        help="of SDS (default: 20)",
    )
    parser.add_argument("--seed", type=int, help="random seed (default: 0)")
    parser.add_argument(
        "--out", default="samples.png", help="picture to write (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Draw the picture, and print where."""
    from dreamfusion_jax import api

    print(api.sample(**vars(options)))
