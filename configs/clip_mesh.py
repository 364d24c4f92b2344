r"""CLIP-Mesh (Khalid et al. 2022, arXiv 2203.13333): CLIP pulls a sphere into shape, and paints it.

Command:   dreamfusion generate "a snail on a leaf" --config=clip_mesh \
               --config.prior.name=/models/clip-vit-base-patch32
Hardware:  an accelerator: 25 views of 512 pixels are drawn in every step, and seen by CLIP.
Time:      not measured here.
Expected:  as published, among the 153 captions of object-centric COCO, R-Precision on color of
           67.8 / 75.8 / 74.5 % (CLIP B/32, B/16, L/14).

Published settings that are kept: the control mesh (642 vertices) and its limit surface, a texture
and a normal map of 512 texels with their blur, 5,000 steps of Adam from 1e-2 to 1e-3 with 25 views,
cameras (distances and fields of view), views without texture in the first half, random backgrounds,
the weight of the Laplacian at first and at last.
Not kept: the second loss, for which a prior network makes an image's vector of the text's (no such
network is read here); the texture's alpha channel; elevations are uniform within 30 degrees and not
~ Beta(1, 5) within 90; the Laplacian is that of the surface, relative to its edges; textureless
views are white; and what DreamFusion's trainer does in its own way (lights, offsets of the camera,
the shape of the learning rate's decay).
"""

import ml_collections

from dreamfusion_jax.config import choose_part, load_config


def get_config() -> ml_collections.ConfigDict:
    """Return the locked config; what is not set here is as in `dream_fields`."""
    config = load_config("dream_fields").unlock()
    choose_part(config, "scene.name", "sphere")
    config.scene.radius = 1.0
    config.guidance.update({"num_crops": 1, "crop_fraction": 1.0})
    # The published sphere has twice the radius of this one, and cameras twice as far away.
    config.camera.update(
        {
            "elevation_range": (0.0, 30.0),
            "uniform_on_sphere_probability": 0.0,
            "distance_range": (2.5, 6.0),
            "focal_range": (0.5, 1.87),  # fields of view of 90 and 30 degrees
            "look_at_std": 0.5,
        }
    )
    config.light.update(
        {
            "albedo_steps": 0,
            "lit_probability": 1.0,
            "textureless_probability": 0.5,
            "ambient": 0.3,
            "diffuse": 0.7,
            "distance_range": (2.5, 6.0),
            "direction_std": 1.0,
        }
    )
    config.regularizers.transmittance.update({"start": 0.0, "end": 0.0})
    config.regularizers.laplacian.update({"start": 0.3, "end": 0.006, "steps": 1500})
    config.optim.update(
        {
            "warmup_start": 1e-2,
            "warmup_steps": 1,
            "learning_rate": 1e-2,
            "final_learning_rate": 1e-3,
        }
    )
    config.optim.adam.update({"b2": 0.999, "eps": 1e-8})
    config.train.update({"steps": 5_000, "image_size": 512, "batch_size": 25})
    config.stages = ml_collections.ConfigDict(
        {"textured": {"begin": 0.5, "light": {"textureless_probability": 0.0}}}
    )
    config.eval_camera.update({"elevation": 30.0, "distance": 5.0, "focal": 0.866})
    return config.lock()
