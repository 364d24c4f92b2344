r"""DreamFusion as published (arXiv 2209.14988): every number of the paper.

Command:   dreamfusion generate "a DSLR photo of a peacock on a surfboard" --config=paper \
               --config.prior.name=/models/IF-I-XL-v1.0
Hardware:  a TPU v4 board (4 chips, one view each) or a large GPU; far too slow for a laptop.
Time:      1.5 hours on 4 TPU v4 chips in the paper (0.36 s an iteration).
Expected:  with Imagen as the prior, CLIP R-Precision 75.1 / 77.5 / 79.7 % (B/32, B/16, L/14)
           on color and 42.5 / 46.6 / 58.5 % on textureless renders. Without --config.prior.name the
           one that ships is used, which knows 128 objects and no peacock.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config."""
    config = ml_collections.ConfigDict()
    config.prompt = ml_collections.ConfigDict(
        {
            "text": "",  # what to make; the argument of `generate`
            "view_words": "paper",  # added to prompts; or "fine" (24 words), or "none"
            "textureless_words": "",  # added to those of textureless views
        }
    )
    config.seed = 0  # every random key derives from it and the step
    config.init = ""  # the folder of a run whose scene this one starts from
    config.prior = ml_collections.ConfigDict(
        {
            # Or "furniture-views", "furniture-unet", a model's folder or its id on the hub.
            "name": "embedded",
            "dtype": "bfloat16",  # or "float32"; of networks, the shipped pictures have none
            # A noun that an embedded prior never saw is read as the nearest one that it knows.
            "replace_unknown_nouns": True,
        }
    )

    config.scene = ml_collections.ConfigDict()
    config.scene.name = "nerf"  # a field that rays are sampled in; or "mesh", a surface
    # Or "latent", for Stable Diffusion: rendered as latents, without encoding every view.
    config.scene.space = "rgb"
    config.scene.radius = 1.4  # of the bounding sphere: nothing is dense outside
    # Or "density_grid": looks into a grid of the density, and not through the field.
    config.scene.sampler = ml_collections.ConfigDict(
        {
            "name": "hierarchical",  # which part it is; the other keys are its own
            "coarse_samples": 64,  # of a ray, to find where it is dense
            "fine_samples": 64,  # of a ray, where it is dense
        }
    )
    config.scene.field = ml_collections.ConfigDict(
        {
            "name": "mlp",  # or "grid" or "hash_grid", which have other keys
            "width": 128,  # units of a layer
            "blocks": 5,  # residual blocks
            "frequencies": 8,  # octaves L of the positional encoding
            "blob_scale": 5.0,  # lambda_tau, the height of the blob at the origin
            "blob_std": 0.2,  # sigma_tau, its width
            # True takes the paper at its word: the blob is then in the scene for good.
            "blob_after_exp": False,
            "density_offset": 0.0,  # added to the log density; negative: emptier at first
            # Bounds the memory: 1.1 GB beside a UNet of IF-I-XL's size instead of 8.4, for 8 % of
            # the step's time on a v4 chip (launch/tpu/compile_check.py; 0 takes all at once).
            "points_per_chunk": 32_768,
        }
    )
    config.scene.background = ml_collections.ConfigDict(
        {
            "name": "environment",  # or "color" (flat, random) or "textures" (random)
            "width": 64,  # units of a layer
            "layers": 2,  # hidden layers
            "frequencies": 4,  # octaves of the ray's direction
        }
    )
    config.scene.lambda_sigma = ml_collections.ConfigDict(
        {
            "start": 5e-2,  # lambda_Sigma of the Gaussians that the field is asked for
            "end": 2e-3,  # where it goes linearly
            "steps": 5000,  # within so many
        }
    )

    config.camera = ml_collections.ConfigDict(
        {
            "name": "random",  # or "of_prior": from where the prior has seen, if it says
            "elevation_range": (-10.0, 90.0),  # degrees
            "uniform_on_sphere_probability": 0.5,  # else uniform in elevation
            "azimuth_range": (0.0, 360.0),  # degrees
            "distance_range": (1.0, 1.5),  # from the origin
            "position_jitter": 0.1,  # added to the position, uniform in each coordinate
            "look_at_std": 0.2,  # of the point that is looked at
            "up_std": 0.02,  # of the up vector
            "focal_range": (0.7, 1.35),  # image widths
        }
    )
    config.light = ml_collections.ConfigDict(
        {
            "albedo_steps": 1000,  # unlit at first
            "lit_probability": 0.75,  # after that; else the albedo is shown
            "textureless_probability": 0.5,  # of a lit view: white, to show the shape alone
            "ambient": 0.1,  # light from everywhere
            "diffuse": 0.9,  # of the point light
            "distance_range": (0.8, 1.5),  # of the light from the origin
            "direction_std": 1.0,  # of the light's direction around the camera's
            "beside": (0.0, 0.0),  # the mean of the light's direction, in the camera's right and up
        }
    )
    config.guidance = ml_collections.ConfigDict(
        {
            # Or "diffusion_loss", the ablation with the U-Net's Jacobian, or "clip", whose keys are
            # others, with an image-text model as config.prior: see configs/dream_fields.py.
            "name": "sds",
            "omega": 100.0,  # of (1 + omega) eps(y) - omega eps(); others call 1 + omega the scale
            "t_min": 0.02,  # t ~ U(t_min, t_max)
            "t_max": {
                "start": 0.98,  # at the first step
                "end": 0.98,  # where it goes linearly; equal: no annealing
                "steps": 0,  # within so many; 0: over the run
            },
            "weighting": "sigma_squared",  # w(t); or "uniform"
        }
    )
    config.regularizers = ml_collections.ConfigDict(
        {
            "orientation": {
                "start": 1e-4,  # weight of Ref-NeRF's penalty on normals that face away
                "end": 1e-2,  # where it goes linearly
                "steps": 5000,  # within so many
            },
            "opacity": {
                "start": 1e-3,  # weight of the penalty on opacity along rays
                "end": 1e-3,  # where it goes linearly
                "steps": 1,  # within so many
            },
            "entropy": {
                "start": 0.0,  # weight of the entropy of a ray's opacity; not in the paper
                "end": 0.0,  # where it goes linearly
                "steps": 1,  # within so many
            },
            "transmittance": {
                "start": 0.0,  # weight of Dream Fields' penalty on too little transmittance
                "end": 0.0,  # where it goes linearly
                "steps": 1,  # within so many
                "target_start": 0.4,  # the mean transmittance that is asked for at first
                "target_end": 0.88,  # and at the end
                "target_steps": 500,  # where the target is reached
            },
            "normal_consistency": {
                "start": 0.0,  # weight of the bends of a mesh; the last four are of meshes alone
                "end": 0.0,  # where it goes linearly
                "steps": 1,  # within so many
            },
            "laplacian": {
                "start": 0.0,  # weight of how far a mesh's vertices are from their neighbors' mean
                "end": 0.0,  # where it goes linearly
                "steps": 1,  # within so many
            },
            "edge_length": {
                "start": 0.0,  # weight of how unequal a mesh's edges are
                "end": 0.0,  # where it goes linearly
                "steps": 1,  # within so many
            },
            "eikonal": {
                "start": 0.0,  # weight of |gradient of a mesh's distances| != 1
                "end": 0.0,  # where it goes linearly
                "steps": 1,  # within so many
            },
        }
    )
    config.optim = ml_collections.ConfigDict(
        {
            "name": "shampoo",  # or "adam"
            "learning_rate": 1e-4,  # after the warmup
            "warmup_start": 1e-9,  # the learning rate of the first step
            "warmup_steps": 3000,  # linear
            "final_learning_rate": 1e-6,  # of the last step, by a cosine
            "clip_norm": 0.0,  # largest norm of the gradient; 0: any
            "tables": {
                # Of the tables of "grid" and "hash_grid", by Adam; 0: as all other parameters.
                "learning_rate": 0.0,
                "final_learning_rate": 0.0,  # of the last step
            },
            "shampoo": {
                "beta1": 0.9,  # decay of the momentum
                "beta2": 0.9,  # decay of the statistics
                "exponent_override": 2,  # p of the roots L^(-1/p); 0: twice the rank
                "block_size": 128,  # larger dimensions are cut into blocks
                "graft_type": "sqrt_n",  # whose norm an update takes: see optim/grafting.py
                "matrix_epsilon": 1e-6,  # ridge, relative to the largest eigenvalue
                "start_preconditioning_step": 5,  # grafted updates alone before
                "preconditioning_compute_steps": 1,  # the roots are renewed every so many steps
            },
            "adam": {
                "b1": 0.9,  # decay of the momentum
                "b2": 0.99,  # decay of the squared gradients
                "eps": 1e-15,  # added to their root
            },
        }
    )
    config.train = ml_collections.ConfigDict(
        {
            "steps": 15_000,  # of the optimization
            "image_size": 64,  # pixels a side of a rendered view
            "batch_size": 4,  # views of each scene in a step, over all devices
            "scenes_per_batch": 8,  # of many prompts, how many are optimized together at most
            "steps_per_call": 50,  # in one call of the compiled program
            "checkpoint_every": 500,  # steps; a multiple of steps_per_call
            "preview_every": 500,  # steps; a multiple of steps_per_call
        }
    )
    # Later stages by a name of yours: {"begin": 0.5 (of all steps), what changes, like "train":
    # {"image_size": 128}, and "convert": {"name": "fit"} where the scene's parameters are others}.
    config.stages = ml_collections.ConfigDict()
    config.export = ml_collections.ConfigDict(
        {
            "turntable_frames": 120,  # of the video
            "turntable_size": 256,  # pixels a side of each picture
            "mesh_resolution": 192,  # points along the longest side of the object
            "triangles": 50_000,  # at most; 0: all
            "texture_size": 1024,  # pixels a side
        }
    )
    # Of previews, videos, the viewer and what is evaluated without cameras of its own.
    config.eval_camera = ml_collections.ConfigDict(
        {
            "elevation": 15.0,  # degrees
            "distance": 1.5,  # from the origin
            "focal": 1.1,  # image widths
        }
    )
    return config.lock()
