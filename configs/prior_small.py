"""Trains the small text-to-image model that ships with the package, on a laptop.

Command:   dreamfusion train-prior --config=prior_small --workdir=outputs/prior
Hardware:  2 CPU cores, 3 GB; an accelerator is far faster.
Time:      480,000 images, 92 minutes on 2 cores of an Intel Xeon with AVX-512.
           Resumable: repeat the command to go on from the last checkpoint.
Expected:  a loss of 0.05; samples with the right colors and silhouettes, little detail.
           What ships was trained three times as long (furniture/assets/unet/README.md).

4.2 M parameters, 32 pixels, 24 nouns. The larger model of all objects is prior_furniture.
"""

import ml_collections

NOUNS = (
    "teddy bear",
    "armchair",
    "hamburger",
    "laptop",
    "teapot",
    "motorbike",
    "birthday cake",
    "table",
    "snowman",
    "fire hydrant",
    "barrel",
    "cactus",
    "electric guitar",
    "grand piano",
    "horse",
    "soccer ball",
    "traffic cone",
    "palm tree",
    "bus",
    "vase",
    "fire extinguisher",
    "rocking horse",
    "tent",
    "suitcase",
)


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config."""
    config = ml_collections.ConfigDict()
    config.seed = 0

    config.data = ml_collections.ConfigDict()
    config.data.nouns = NOUNS  # () takes all
    # Shares of made pictures: copies in another color, and two objects in one picture.
    config.data.extras = ml_collections.ConfigDict({"recolored": 0.3, "pairs": 0.0})

    config.model = ml_collections.ConfigDict()
    config.model.image_size = 32
    config.model.tokens = 20  # the longest prompt, with its view words
    config.model.prediction = "v"  # or "eps"
    config.model.weights = "bfloat16"  # of the file; or "int8", with a scale for each channel
    config.model.t_max = 0.9946  # cosine schedule, log-SNR -9.5 at t = 1
    config.model.unet = ml_collections.ConfigDict(
        {
            "in_channels": 3,
            "out_channels": 3,
            "patch_size": 2,
            "block_out_channels": (48, 64, 128),
            "layers_per_block": 1,
            "down_block_types": (
                "ResnetDownsampleBlock2D",
                "SimpleCrossAttnDownBlock2D",
                "SimpleCrossAttnDownBlock2D",
            ),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "up_block_types": (
                "SimpleCrossAttnUpBlock2D",
                "SimpleCrossAttnUpBlock2D",
                "ResnetUpsampleBlock2D",
            ),
            "attention_head_dim": 32,
            "cross_attention_dim": 128,
            "encoder_hid_dim": None,
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": 4,
            "cross_attention_norm": None,
            "resnet_time_scale_shift": "scale_shift",
            "act_fn": "silu",
            "norm_num_groups": 8,
        }
    )
    config.model.text_encoder = ml_collections.ConfigDict(
        {"d_model": 128, "num_layers": 2, "num_heads": 4, "d_kv": 32, "d_ff": 256}
    )

    config.augment = ml_collections.ConfigDict()
    config.augment.scale = 0.1  # objects are drawn 0.9 to 1.1 times their size
    config.augment.shift = 0.04  # and moved by up to 4 % of the image
    config.augment.drop_caption = 0.1  # trains the unconditional half of guidance

    config.optim = ml_collections.ConfigDict()
    config.optim.learning_rate = 1e-3
    config.optim.final_learning_rate = 1e-5
    config.optim.warmup_steps = 500
    config.optim.weight_decay = 0.01
    config.optim.beta2 = 0.999
    config.optim.clip_norm = 1.0
    config.optim.ema = 0.9995

    config.train = ml_collections.ConfigDict()
    config.train.steps = 30_000
    config.train.batch = 16
    config.train.time_exponent = 0.5  # t = u ** this: the noisy times, where words decide, twice
    config.train.dtype = "float32"  # of the arithmetic; or "bfloat16", for accelerators
    config.train.steps_per_call = 10
    config.train.checkpoint_every = 500

    config.sheet = ml_collections.ConfigDict()
    config.sheet.every = 2500
    config.sheet.prompts = tuple(f"a {noun}, front view" for noun in NOUNS)
    config.sheet.columns = 8
    config.sheet.steps = 25
    config.sheet.guidance_weight = 3.0
    return config.lock()
