"""Trains a text-to-image model of all objects, for an accelerator.

Command:   dreamfusion train-prior --config=prior_furniture
           takes the shipped views of 128 objects; with --data=FILE.deb, which
           `apt-get download sweethome3d-furniture` fetches, all of that collection. It renders
           them beside that file first, which needs the [data] extra.
Hardware:  one GPU or TPU chip with 16 GB. On a CPU it takes days; use prior_small there.
Time:      6 minutes by the rate of an H100, 22,900 images a second; 3 to 4 minutes before that for
           the pictures and for compilation. Resumable: repeat the command.
Expected:  not measured to the end. After 6,500 steps, a fifth of it, the loss is 0.036 and most
           objects can be recognized, with noise for texture.

64 pixels, synonyms, copies in other colors, and pairs of objects; 14.7 M parameters, 15 MB with
8-bit weights.
"""

import ml_collections

from dreamfusion_jax.config import load_config


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config; what is not set here is as in prior_small."""
    config = load_config("prior_small").unlock()
    config.data.nouns = ()
    config.data.extras.update({"recolored": 0.3, "pairs": 0.05})
    config.model.image_size = 64
    config.model.weights = "int8"
    # Patches of 4 leave 16 x 16 places, as the small model has: cheap enough for a laptop to draw.
    config.model.unet.update(
        {"patch_size": 4, "block_out_channels": (128, 160, 192), "cross_attention_dim": 192}
    )
    config.model.text_encoder.update({"d_model": 192, "num_heads": 6, "d_ff": 512})
    config.optim.update({"learning_rate": 1e-3, "warmup_steps": 500, "ema": 0.9998})
    config.train.update(
        {"steps": 30_000, "batch": 256, "steps_per_call": 100, "checkpoint_every": 1000}
    )
    config.train.dtype = "bfloat16"
    config.sheet.every = 5000
    return config.lock()
