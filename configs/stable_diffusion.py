"""DreamFusion with Stable Diffusion (1.x or 2.x) as the prior, as most people have it.

Command:   dreamfusion generate "a DSLR photo of a corgi" --config=stable_diffusion \
               --config.prior.name=/models/stable-diffusion-2-1-base
Hardware:  a GPU or TPU chip with 16 GB (11.0 at 512 pixels, by the TPU's compiler); much patience
           on a CPU. On a TPU a dense grid should be far faster than the hash
           grid: --config.scene.field.name=grid --config.scene.field.cells=128.
Time:      not measured: no weights of Stable Diffusion were at hand.
Expected:  not measured. The U-Net sees latents: of each view, rendered at 64, then 256, then
           512 pixels (smaller ones are enlarged to 512), or rendered as latents
           (--config.scene.space=latent).
"""

import ml_collections

from dreamfusion_jax.config import load_config


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config; what is not set here is as in the paper."""
    config = load_config("paper").unlock()
    config.prior.name = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.scene.field = ml_collections.ConfigDict(
        {
            "name": "hash_grid",
            "levels": 14,
            "base_cells": 16,
            "cells": 1024,
            "features": 2,
            "log2_table": 19,
            "width": 32,
            "hidden_layers": 1,
            "normal_step": 0.01,
            "blob_scale": 5.0,
            "blob_std": 0.2,
            "blob_after_exp": False,
            "density_offset": 0.0,
            "points_per_chunk": 2**17,  # normals ask the field seven times for each point
        }
    )
    config.scene.sampler = ml_collections.ConfigDict(
        {
            "name": "density_grid",
            "cells": 128,
            "coarse_samples": 96,
            "fine_samples": 32,
            "every": 16,
            "decay": 0.9,
            "budget": 0.25,
        }
    )
    config.train.update(
        {
            "batch_size": 1,  # the gradient of a view's encoding takes gigabytes
            "steps": 10_000,
        }
    )
    config.stages = ml_collections.ConfigDict(
        {
            "larger": {"begin": 0.4, "train": {"image_size": 256}},
            "largest": {"begin": 0.8, "train": {"image_size": 512}},
        }
    )
    # The usual optimizer of those who distil Stable Diffusion; the paper's is for Imagen.
    config.optim.update({"name": "adam", "learning_rate": 1e-3, "warmup_steps": 500})
    config.optim.tables.update({"learning_rate": 1e-2, "final_learning_rate": 1e-3})
    return config.lock()
