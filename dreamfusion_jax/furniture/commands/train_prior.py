"""`dreamfusion train-prior`."""

import argparse

from dreamfusion_jax.command_options import add_config, add_profile, given

SUMMARY = "train a text-to-image prior"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    add_config(parser, "prior_small")
    parser.add_argument(
        "--data",
        dest="source",
        metavar="DATA",
        help="sweethome3d-furniture's .deb file, a pack made of it (furniture.packed), or the "
        "folder of a TFDS captioned_furniture build (default: the shipped views)",
    )
    parser.add_argument("--init", help="folder of a model to start from, of the same architecture")
    parser.add_argument(
        "--workdir",
        default="outputs/prior",
        help="checkpoints and sample sheets (default: %(default)s)",
    )
    add_profile(parser)


def run(options: argparse.Namespace) -> None:
    """Train, and print the model's folder."""
    from dreamfusion_jax.config import PRIOR_PARTS, load_config, override
    from dreamfusion_jax.furniture.prior_data import load_data
    from dreamfusion_jax.furniture.prior_training import train_prior
    from dreamfusion_jax.io import local_path
    from dreamfusion_jax.train.profile import steps_to_profile

    config = load_config(options.config, PRIOR_PARTS)
    override(config, options.overrides)
    how = given(options, "init", "profile")
    if "profile" in how:
        how["profile"] = steps_to_profile(options.profile, config.train.steps)
    data = load_data(config, **given(options, "source"))
    print(train_prior(config, data, local_path(options.workdir), **how))
