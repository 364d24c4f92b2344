"""The default: a grid of density and color, then a surface, with the prior that ships.

Command:   dreamfusion generate "a teddy bear"
Hardware:  2 CPU cores, 2 GB.
Time:      59 seconds on 2 cores of an AMD EPYC, 45 of them optimization; 66 the first time, when
           programs are compiled.
Expected:  a silhouette IoU of 0.987 and a PSNR of 34.8 dB over the README's eight prompts.

Cameras and light are those of the prior's own pictures. That makes sharp results of few steps, and
brings the method nearer to fitting these pictures than the paper's random cameras are
(`--config.camera.name=random`): what is optimized is still the score distillation loss alone.
"""

import ml_collections

from dreamfusion_jax.config import load_config


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config; what is not set here is as in the paper."""
    config = load_config("paper").unlock()
    config.prior.dtype = "float32"
    # The pictures of the prior are 15 degrees apart: where it has seen nothing it blurs thin parts.
    # One that does not say where it has seen gets whole objects from the same distance.
    config.camera.update(
        {
            "name": "of_prior",
            "distance_range": (1.5, 1.5),
            "focal_range": (1.25, 1.25),
            "position_jitter": 0.0,
            "look_at_std": 0.0,
            "up_std": 0.0,
        }
    )
    # The pictures' own light: far away, beside the camera, soft, and never textureless. Under
    # others the prior would take shadows for colors and push normals away from the light.
    config.light.update(
        {
            "albedo_steps": 50,
            "lit_probability": 1.0,
            "textureless_probability": 0.0,
            "ambient": 0.7,
            "diffuse": 0.4,
            "distance_range": (20.0, 20.0),
            "direction_std": 0.0,
            "beside": (0.3, 0.8),
        }
    )
    # Objects have a diagonal of 1. A tight sphere leaves the corners of each view to the
    # background and needs few samples.
    config.scene.radius = 0.52
    config.scene.field = ml_collections.ConfigDict(
        {
            "name": "grid",
            "cells": 64,
            "levels": 4,
            "smoothing": 1,
            "by_products": False,
            "blob_scale": 5.0,
            "blob_std": 0.2,
            "blob_after_exp": False,
            "density_offset": -3.0,
            "points_per_chunk": 0,
        }
    )
    config.scene.sampler = ml_collections.ConfigDict(
        {
            "name": "density_grid",
            "cells": 64,
            "coarse_samples": 48,
            "fine_samples": 16,
            "every": 8,
            # As fine as the field, it forgets at once: sharper than what it would remember.
            "decay": 0.0,
            "budget": 1.0,  # on a CPU, leaving samples out costs what it saves
        }
    )
    # A flat random color is what the prior marginalizes over.
    config.scene.background = ml_collections.ConfigDict({"name": "color", "mean": 0.5, "std": 0.3})
    config.scene.lambda_sigma.steps = 110
    # The exact denoiser needs no guidance: its conditional half is already right. Towards the
    # end less noise is added: what is left to learn are details.
    config.prompt.view_words = "fine"
    config.guidance.omega = 0.0
    config.guidance.t_max.end = 0.4
    config.regularizers.orientation.steps = 110
    # Fog that fills the view would pass for a background. A strong opacity penalty clears it at
    # first; later it would eat thin parts, and the entropy takes over. That makes outlines sharp
    # too, so that the mesh is what the field shows.
    config.regularizers.opacity.update({"start": 5e-2, "end": 3e-3, "steps": 190})
    config.regularizers.entropy.update({"end": 6e-2, "steps": 300})
    config.optim.update(
        {"name": "adam", "learning_rate": 1e-2, "warmup_steps": 50, "final_learning_rate": 1e-3}
    )
    config.optim.tables.update({"learning_rate": 0.2, "final_learning_rate": 5e-3})
    # The second half goes on with the surface itself, at twice the size (64 cells are 128 pixels):
    # what is fog in the field is no longer there, so that its penalties are not needed, and bends
    # that no picture asks for cost a little.
    config.stages = ml_collections.ConfigDict(
        {
            "surface": {
                "begin": 0.5,
                "convert": {"name": "surface"},
                "scene": {"name": "mesh", "cells": 64},
                "train": {"image_size": 128},
                "optim": {"tables": {"learning_rate": 0.05, "final_learning_rate": 5e-3}},
                "regularizers": {
                    "opacity": {"start": 0.0, "end": 0.0},
                    "entropy": {"end": 0.0},
                    "normal_consistency": {"start": 1e-2, "end": 1e-2},
                },
            }
        }
    )
    config.train.update(
        {
            "steps": 600,
            "image_size": 64,
            "batch_size": 2,
            "scenes_per_batch": 2,
            "steps_per_call": 25,
            "checkpoint_every": 150,
            "preview_every": 100,
        }
    )
    config.export.update(
        {
            "turntable_frames": 48,
            "turntable_size": 384,
            "mesh_resolution": 128,
            "triangles": 20_000,
        }
    )
    config.eval_camera.focal = 1.25
    return config.lock()
