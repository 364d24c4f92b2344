"""DeepFloyd IF (stage I) as the prior, with a hash grid in place of the paper's MLP.

Command:   dreamfusion generate "a DSLR photo of a corgi" --config=deepfloyd_if \
               --config.prior.name=/models/IF-I-XL-v1.0
Hardware:  a GPU or TPU chip with 16 GB for IF-I-XL; much patience on a CPU.
Time:      not measured: no weights of IF were at hand.
Expected:  not measured. IF sees 64 x 64 pixels, which are rendered as such. `--config=paper` has
           the paper's own scene, optimizer and number of steps.
"""

import ml_collections

from dreamfusion_jax.config import load_config


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config; what is not set here is as with Stable Diffusion."""
    config = load_config("stable_diffusion").unlock()
    config.prior.name = "DeepFloyd/IF-I-XL-v1.0"
    config.scene.field.update({"levels": 10, "cells": 256})  # finer than a pixel of 64 from nearby
    config.train.batch_size = 4
    config.stages = ml_collections.ConfigDict()
    return config.lock()
