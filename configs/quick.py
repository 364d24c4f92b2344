"""The default: a small NeRF and the prior that ships with the package, for a laptop.

Command:   dreamfusion generate "a teddy bear"
Hardware:  2 CPU cores, 4 GB.
"""

import ml_collections

from dreamfusion_jax.configs import paper


def get_config() -> ml_collections.ConfigDict:
    """Returns the locked config; what is not set here is as in the paper."""
    config = paper.get_config().unlock()
    # The prior's pictures show the whole object from a fixed distance.
    config.camera.update(
        {
            "distance_range": (1.5, 1.5),
            "focal_range": (1.1, 1.1),
            "position_jitter": 0.0,
            "look_at_std": 0.0,
            "up_std": 0.0,
        }
    )
    config.scene.radius = 0.75
    config.scene.coarse_samples = 32
    config.scene.fine_samples = 16
    config.scene.field.update({"width": 64, "blocks": 2, "frequencies": 6, "density_offset": -2.0})
    config.scene.background.kind = "colour"
    config.light.albedo_steps = 300
    config.blur.steps = 500
    config.guidance.weight = 0.0
    config.optim.update(
        {"name": "adam", "learning_rate": 3e-3, "warmup_steps": 50, "final_learning_rate": 3e-4}
    )
    config.train.update(
        {
            "steps": 1500,
            "image_size": 32,
            "views": 2,
            "steps_per_call": 25,
            "checkpoint_every": 250,
            "preview_every": 250,
        }
    )
    config.export.update({"turntable_frames": 48, "turntable_size": 128, "mesh_resolution": 96})
    return config.lock()
