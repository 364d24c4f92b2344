r"""Dream Fields (Jain et al. 2022, arXiv 2112.01455): CLIP in the place of the diffusion prior.

Command:   dreamfusion generate "a snail on a leaf" --config=dream_fields \
               --config.prior.name=/models/clip-vit-base-patch16
Hardware:  an accelerator: eight crops of 224 pixels go through CLIP for every view.
Time:      not measured here.
Expected:  as published, among the 153 captions of object-centric COCO, R-Precision on color of
           68.3 % (CLIP B/32) and 74.2 % (B/16). The reimplementation in DreamFusion's Table 1, on
           its own NeRF like this one, has 78.6 / 99.9 / 82.9 % (B/32, B/16, L/14; B/16 is what it
           was optimized with) on color, and 1.3 / 0.8 / 1.4 % on textureless renders: chance.

Published settings that are kept: the loss (cosine of the image's and the text's vectors, 8 crops
of 154 of 168 pixels), backgrounds, the target of the transmittance, cameras (30 degrees of
elevation; 4 units from a cube of 2, here 2 from one of 1), 10,000 steps of Adam from 1e-5 to 1e-4.
NeRF, initial blob, orientation penalty and trainer are DreamFusion's; crops of a view share a
background; the rate rises linearly, and there is no tracked origin.
"""

import ml_collections

from dreamfusion_jax.config import load_config


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config; what is not set here is as in `paper`."""
    config = load_config("paper").unlock()
    config.prior.name = "give --config.prior.name=FOLDER"
    config.prior.dtype = "float32"
    config.prompt.view_words = "none"
    config.guidance = ml_collections.ConfigDict(
        {
            "name": "clip",
            "num_crops": 8,  # of a view
            "crop_fraction": 154 / 168,  # their side, as a fraction of the view's
        }
    )
    config.scene.radius = 0.87  # around a cube of side 1
    config.scene.background = ml_collections.ConfigDict({"name": "textures"})
    config.camera.update(
        {
            "elevation_range": (30.0, 30.0),
            "distance_range": (2.0, 2.0),
            "focal_range": (5 / 3, 5 / 3),
            "position_jitter": 0.0,
            "look_at_std": 0.0,
            "up_std": 0.0,
        }
    )
    config.light.lit_probability = 0.0  # albedo only
    config.regularizers.opacity.update({"start": 0.0, "end": 0.0})
    config.regularizers.transmittance.update({"start": 0.5, "end": 0.5})
    config.optim.update(
        {
            "name": "adam",
            "warmup_start": 1e-5,
            "warmup_steps": 1500,
            "learning_rate": 1e-4,
            "final_learning_rate": 1e-4,
        }
    )
    config.optim.adam.update({"b2": 0.999, "eps": 1e-5})
    config.train.update({"steps": 10_000, "image_size": 168})
    config.eval_camera.update({"elevation": 30.0, "distance": 2.0, "focal": 5 / 3})
    return config.lock()
