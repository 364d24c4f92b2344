"""The rows of the ablation table, each a change of the default config.

Command:   python launch/ablations.py --workdir=outputs/ablations   (the whole table)
           dreamfusion generate "a teapot" --config=ablations.views   (one row)
Hardware:  2 CPU cores, 4 GB; an accelerator for more than a few nouns.
Time:      about 0.9 minutes a noun and row on 2 cores of an Intel Xeon with AVX-512, with 400
           steps; guidance twice that, Shampoo four times. An AMD EPYC (Milan) takes twice as long.
Expected:  see the README's table.

The first five follow the paper's Figure 6: each adds to the one before. Each of the others
changes one thing of `quick`, the default, but for the last, `CLAIM`.
"""

import ml_collections

from dreamfusion_jax.config import load_config, override

_FRONT = {
    "camera.name": "random",
    "camera.azimuth_range": (-45.0, 45.0),
    "camera.elevation_range": (0.0, 30.0),
}
# A small one of the paper's kind: its 5 blocks of 128 take eight times as long.
_MLP = {
    "scene.field.name": "mlp",
    "scene.field.width": 64,
    "scene.field.blocks": 2,
    "scene.field.frequencies": 6,
    "scene.field.density_offset": -3.0,
    "scene.field.points_per_chunk": 512,
    "scene.sampler.name": "hierarchical",
    "scene.sampler.coarse_samples": 32,
    "scene.sampler.fine_samples": 16,
}
_PLAIN = {"prompt.view_words": "none", "light.lit_probability": 0.0}

# name: (what the table says, the values that it changes)
FIGURE_6 = {
    "base": ("base: views from the front, one prompt, albedo", _PLAIN | _FRONT),
    "views": ("+ wide range of views", _PLAIN),
    "view_prompts": ("+ view-dependent prompts", {"light.lit_probability": 0.0}),
    "lighting": ("+ lighting", {}),
    "textureless": ("+ textureless", {"light.textureless_probability": 0.5}),
}
OTHERS = {
    "paper_words": ("the paper's 4 view words, not 24", {"prompt.view_words": "paper"}),
    "guidance_7": ("guidance weight 7.5", {"guidance.omega": 7.5}),
    "guidance_25": ("guidance weight 25", {"guidance.omega": 25.0}),
    "guidance_50": ("guidance weight 50", {"guidance.omega": 50.0}),
    "guidance_100": ("guidance weight 100", {"guidance.omega": 100.0}),
    "uniform": ("w(t) = 1, not sigma^2", {"guidance.weighting": "uniform"}),
    "full_gradient": ("full diffusion-loss gradient", {"guidance.name": "diffusion_loss"}),
    "random_cameras": ("cameras between the prior's own", {"camera.name": "random"}),
    "surface": ("then a surface: the default", {}),
    "small": ("32 pixels, not 64", {"train.image_size": 32}),
    "mlp": ("an MLP, not the grid", _MLP),
    # Its steps are ten times Adam's at the same rate: 1 an entry, and a momentum that sums.
    "shampoo": (
        "an MLP with Shampoo, not Adam",
        _MLP
        | {
            "optim.name": "shampoo",
            "optim.learning_rate": 1e-3,
            "optim.final_learning_rate": 1e-4,
        },
    ),
    "constant_t": ("t range not annealed", {"guidance.t_max.end": 0.98}),
    "sharp": ("covariance not annealed", {"scene.lambda_sigma.start": 2e-3}),
}
# The paper's central claim: `quick` beside Dream Fields on the same NeRF, and CLIP-Mesh. These two
# are guided by a dual encoder that has learnt from other pictures than the evaluator:
#   dreamfusion train-evaluator --data=library --config.seed=1 --workdir=outputs/guide
#   python launch/ablations.py --rows lighting --held-out --nouns=8 --workdir=outputs/held_out
#   python launch/ablations.py --rows dream_fields --held-out --nouns=8 --set train.steps=600 \
#       --workdir=outputs/dream_fields
#   python launch/ablations.py --rows clip_mesh --held-out --nouns=8 --set train.steps=600 \
#       train.batch_size=8 --workdir=outputs/clip_mesh
CLAIM = {
    "dream_fields": (
        "Dream Fields: the cosine of an image-text model, no diffusion prior",
        {
            "prior.name": "outputs/guide/model",
            "guidance.name": "clip",
            "guidance.num_crops": 4,
            "guidance.crop_fraction": 40 / 44,  # of the pixels that the model sees
            "train.image_size": 44,
            "scene.background.name": "textures",
            "regularizers.opacity.start": 0.0,
            "regularizers.opacity.end": 0.0,
            "regularizers.entropy.end": 0.0,
            "regularizers.transmittance.start": 0.5,
            "regularizers.transmittance.end": 0.5,
        }
        | _PLAIN,
    ),
    "clip_mesh": (
        "CLIP-Mesh: the same for a sphere that is pulled into shape and painted",
        {
            "prior.name": "outputs/guide/model",
            "guidance.name": "clip",
            "guidance.num_crops": 1,
            "guidance.crop_fraction": 1.0,
            "train.image_size": 44,
            "scene.name": "sphere",
            "scene.texture_size": 256,
            "scene.background.name": "textures",
            "light.textureless_probability": 0.5,
            "prompt.view_words": "none",
            "regularizers.opacity.start": 0.0,
            "regularizers.opacity.end": 0.0,
            "regularizers.entropy.end": 0.0,
            "regularizers.laplacian.start": 0.3,
            "regularizers.laplacian.end": 0.006,
            "regularizers.laplacian.steps": 180,
            "optim.warmup_steps": 1,
            "optim.final_learning_rate": 1e-3,
        },
    ),
}
ROWS = FIGURE_6 | OTHERS | CLAIM


def get_config(row: str = "lighting") -> ml_collections.ConfigDict:
    """Return the locked config of a row; "surface" is `quick` as it is.

    The others are fields to the end, of half as many steps: "lighting" is the first half of
    `quick`.
    """
    config = load_config("quick")
    if row != "surface":
        with config.unlocked():
            config.stages = ml_collections.ConfigDict()
        override(config, {"train.steps": config.train.steps // 2})
    override(config, ROWS[row][1])
    return config
