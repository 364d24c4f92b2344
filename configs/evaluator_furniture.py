"""Trains the image-text dual encoder that says what results show (furniture/assets/evaluator).

Command:   python -m dreamfusion_jax.furniture.evaluator_views --source=DEB \\
               --out=outputs/evaluator_views
           dreamfusion train-evaluator --data=outputs/evaluator_views --workdir=outputs/evaluator
Hardware:  2 CPU cores, 3 GB.
Time:      rendering 6 minutes on one core, training 30 minutes on two.
Expected:  97 % of held-out true renders found among 128 nouns; see
           furniture/assets/evaluator/README.md for what the shipped weights were trained with.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.nouns = "library"  # the nouns of the shipped library; or "all" of the catalogs
    config.view_weight = 1.0

    config.model = ml_collections.ConfigDict()
    config.model.image_size = 40
    config.model.tokens = 12
    config.model.width = 128
    config.model.image_channels = (64, 128, 256)
    config.model.image_blocks = (1, 1, 2)
    config.model.text = ml_collections.ConfigDict(
        {"d_model": 128, "num_layers": 1, "num_heads": 4, "d_kv": 32, "d_ff": 256}
    )

    config.augment = ml_collections.ConfigDict()
    config.augment.zoom = 1.3  # the pictures leave much room around long objects
    config.augment.scale = 0.1
    config.augment.shift = 0.03
    config.augment.drop_caption = 0.0

    config.optim = ml_collections.ConfigDict()
    config.optim.learning_rate = 1.5e-3
    config.optim.final_learning_rate = 1e-5
    config.optim.warmup_steps = 100
    config.optim.weight_decay = 0.05
    config.optim.beta2 = 0.98
    config.optim.clip_norm = 1.0
    config.optim.ema = 0.995

    config.train = ml_collections.ConfigDict()
    config.train.steps = 3000
    config.train.batch = 128
    config.train.steps_per_call = 10
    config.train.checkpoint_every = 100
    return config.lock()
