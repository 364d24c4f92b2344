r"""DreamFusion as published (arXiv 2209.14988): every number of the paper.

Command:   dreamfusion generate "a DSLR photo of a peacock on a surfboard" --config=paper \
               --config.prior=/models/IF-I-XL-v1.0
Hardware:  a TPU v4 board (4 chips, one view each) or a large GPU; far too slow for a laptop.
Time:      1.5 hours on 4 TPU v4 chips in the paper (0.36 s an iteration).
Expected:  with Imagen as the prior, CLIP R-Precision 75.1 / 77.5 / 79.7 % (B/32, B/16, L/14)
           on colour and 42.5 / 46.6 / 58.5 % on textureless renders. Without --config.prior the
           one that ships is used, which knows 128 objects and no peacock.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the locked config."""
    config = ml_collections.ConfigDict()
    config.prompt = ""
    config.seed = 0
    config.init = ""  # the folder of a run whose scene this one starts from
    # "embedded", "furniture-views", "furniture-unet", a model's folder or its id on the hub
    config.prior = "embedded"
    # A noun that an embedded prior never saw is read as the nearest one that it knows.
    config.replace_unknown_nouns = True
    config.prior_dtype = "bfloat16"  # or "float32"; of networks, the shipped pictures have none

    config.scene = ml_collections.ConfigDict()
    # Or "latent", for Stable Diffusion: rendered as latents, without encoding every view.
    config.scene.colour_space = "rgb"
    config.scene.radius = 1.4
    # Or "density_grid": looks into a grid of the density, and not through the field.
    config.scene.sampler = ml_collections.ConfigDict(
        {"name": "hierarchical", "coarse_samples": 64, "fine_samples": 64}
    )
    config.scene.field = ml_collections.ConfigDict(
        {
            "name": "mlp",  # or "grid" or "hash_grid", which have other keys
            "width": 128,
            "blocks": 5,
            "frequencies": 8,
            "blob_scale": 5.0,
            "blob_std": 0.2,
            # True takes the paper at its word: the blob is then in the scene for good.
            "blob_after_exp": False,
            "density_offset": 0.0,
            # Bounds the memory: 1.1 GB beside a UNet of IF-I-XL's size instead of 8.4, for 8 % of
            # the step's time on a v4 chip (launch/tpu/compile_check.py; 0 takes all at once).
            "points_per_chunk": 32_768,
        }
    )
    config.scene.background = ml_collections.ConfigDict(
        {
            "kind": "environment",  # "colour" (flat, random) or "textures" (random)
            "environment": {"width": 64, "layers": 2, "frequencies": 4},
            "colour_mean": 0.5,
            "colour_std": 0.3,
        }
    )

    config.camera = ml_collections.ConfigDict(
        {
            "name": "random",  # or "of_prior": from where the prior has seen, if it says
            "elevation_range": (-10.0, 90.0),  # degrees
            "area_probability": 0.5,
            "azimuth_range": (0.0, 360.0),  # degrees
            "distance_range": (1.0, 1.5),
            "position_jitter": 0.1,
            "look_at_std": 0.2,
            "up_std": 0.02,
            "focal_range": (0.7, 1.35),  # image widths
        }
    )
    config.light = ml_collections.ConfigDict(
        {
            "albedo_steps": 1000,
            "lit_probability": 0.75,
            "textureless_probability": 0.5,
            "ambient": 0.1,
            "diffuse": 0.9,
            "distance_range": (0.8, 1.5),
            "direction_std": 1.0,
            "beside": (0.0, 0.0),  # the camera, in its right and up: the mean of the direction
        }
    )
    config.blur = ml_collections.ConfigDict(  # lambda_Sigma
        {"start": 5e-2, "end": 2e-3, "steps": 5000}
    )

    config.guidance = ml_collections.ConfigDict(
        {
            # Or "diffusion_loss", the ablation with the U-Net's Jacobian, or "similarity": config
            # .prior is an image-text model, see configs/dream_fields.py.
            "loss": "sds",
            "weight": 100.0,  # omega
            "t_min": 0.02,
            "t_max": 0.98,
            "t_max_end": 0.98,  # t_max moves here linearly over the run; equal: no annealing
            "weighting": "sigma_squared",
            "view_words": "paper",  # or "fine" (24 words), or "none"
            "crops": 8,  # of a view, and their side as a share of its, with "similarity"
            "crop_share": 154 / 168,
        }
    )
    config.regularisers = ml_collections.ConfigDict(
        {
            "orientation": {"start": 1e-4, "end": 1e-2, "steps": 5000},
            "opacity": {"start": 1e-3, "end": 1e-3, "steps": 1},
            "entropy": {"start": 0.0, "end": 0.0, "steps": 1},  # not in the paper
            # Dream Fields' target of the mean transmittance
            "transmittance": {"weight": 0.0, "start": 0.4, "end": 0.88, "steps": 500},
        }
    )
    config.optim = ml_collections.ConfigDict(
        {
            "name": "shampoo",
            "learning_rate": 1e-4,
            "warmup_start": 1e-9,
            "warmup_steps": 3000,
            "final_learning_rate": 1e-6,
            "clip_norm": 0.0,  # 0: off
            # Of the tables of "grid" and "hash_grid", by Adam; 0: as all other parameters.
            "tables": {"learning_rate": 0.0, "final_learning_rate": 0.0},
            "shampoo": {
                "beta1": 0.9,
                "beta2": 0.9,
                "exponent_override": 2,
                "block_size": 128,
                "graft_type": "sqrt_n",
                "matrix_epsilon": 1e-6,
                "start_preconditioning_step": 5,
                "preconditioning_compute_steps": 1,
            },
            "adam": {"b1": 0.9, "b2": 0.99, "eps": 1e-15},
        }
    )
    config.train = ml_collections.ConfigDict(
        {
            "steps": 15_000,
            "image_size": 64,
            "larger_image_sizes": (),  # of later steps, and from which share of all steps on
            "larger_from": (),
            "views": 4,  # of each scene in a step, over all devices
            "scenes": 8,  # of many prompts, how many are optimised together at most
            "steps_per_call": 50,
            "checkpoint_every": 500,
            "preview_every": 500,
        }
    )
    config.export = ml_collections.ConfigDict(
        {
            "turntable_frames": 120,
            "turntable_size": 256,
            "elevation": 15.0,  # degrees
            "distance": 1.5,
            "focal": 1.1,  # image widths
            "mesh_resolution": 192,
            "triangles": 50_000,
            "texture_size": 1024,  # pixels
        }
    )
    return config.lock()
