"""Trains a text-to-image model of all objects, for an accelerator.

Command:   dreamfusion train-prior --config=prior_furniture --data=FILE.deb
           with what `apt-get download sweethome3d-furniture` fetches. Renders the pictures beside
           that file first, which needs the [data] extra.
Hardware:  one GPU or TPU chip with 16 GB; 2 CPU cores for the rendering.
Time:      not measured: no accelerator was at hand. On a CPU it takes days; use prior_small there.
Expected:  not measured.

64 pixels, all usable objects, their synonyms, copies in other colors, and pairs of objects;
17 M parameters, 17 MB with 8-bit weights. Resumable: repeat the command.
"""

import ml_collections

from dreamfusion_jax.config import load_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the locked config; what is not set here is as in prior_small."""
    config = load_config("prior_small").unlock()
    config.data.nouns = ()
    config.data.extras.update({"recolored": 0.15, "pairs": 0.1})
    config.model.image_size = 64
    config.model.weights = "int8"
    config.model.unet.update({"block_out_channels": (64, 128, 256), "cross_attention_dim": 192})
    config.model.text_encoder.update({"d_model": 192, "num_heads": 6, "d_ff": 512})
    config.optim.update(
        {"learning_rate": 4e-4, "warmup_steps": 1000, "beta2": 0.999, "ema": 0.9998}
    )
    config.train.update(
        {"steps": 60_000, "batch": 128, "steps_per_call": 100, "checkpoint_every": 1000}
    )
    config.sheet.every = 5000
    return config.lock()
