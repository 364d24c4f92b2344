"""Shape first, then colors, as in Fantasia3D (Chen et al. 2023, arXiv 2303.13873).

Command:   dreamfusion generate "a DSLR photo of a corgi" --config=fantasia3d \
               --config.prior.name=/models/stable-diffusion-2-1-base
Hardware:  a GPU or TPU chip with 16 GB or more.
Time:      not measured: no weights of Stable Diffusion were at hand.
Expected:  not measured.

A surface from the first step, of a ball. In the first half the prior sees its normals in the place
of colors; in the second the surface is fixed, and the prior sees the colors, lit. Of the paper this
has the two halves and the grid of 128 cells. Its materials (roughness, metal, an environment light)
are not here: colors are Lambertian; and the first steps there show the prior a mask and normals in
the place of latents, here normals as a picture from the beginning.
"""

import ml_collections

from dreamfusion_jax.config import choose_part, load_config


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config; what is not set here is as in `stable_diffusion`."""
    config = load_config("stable_diffusion").unlock()
    choose_part(config, "scene.name", "mesh")
    config.scene.update({"cells": 128, "sphere": 0.5, "shows": "normals"})
    config.scene.background = ml_collections.ConfigDict({"name": "color", "mean": 0.5, "std": 0.3})
    config.regularizers.opacity.update({"start": 0.0, "end": 0.0})
    config.regularizers.normal_consistency.update({"start": 1e-2, "end": 1e-2})
    config.train.update({"steps": 5_000, "image_size": 512})
    config.stages = ml_collections.ConfigDict(
        {
            "colors": {
                "begin": 0.6,
                "scene": {"shows": "colors", "fixed": True},
                "regularizers": {"normal_consistency": {"start": 0.0, "end": 0.0}},
            }
        }
    )
    return config.lock()
