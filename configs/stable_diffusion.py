"""DreamFusion with Stable Diffusion (1.x or 2.x) as the prior, as most people have it.

Command:   dreamfusion generate "a DSLR photo of a corgi" --config=stable_diffusion \
               --config.prior=/models/stable-diffusion-2-1-base
Hardware:  a GPU or TPU chip with 16 GB; 12 GB of memory and much patience on a CPU.
Time:      not measured: no weights of Stable Diffusion were at hand.
Expected:  not measured. The U-Net sees latents: of each view, rendered at 64 x 64 and
           enlarged to 512 x 512, or rendered as latents (--config.scene.colour_space=latent).
"""

import ml_collections

from dreamfusion_jax.configs import paper


def get_config() -> ml_collections.ConfigDict:
    """Returns the locked config; what is not set here is as in the paper."""
    config = paper.get_config().unlock()
    config.prior = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.train.views = 1  # the gradient of a view's encoding takes gigabytes
    # The usual optimiser of those who distil Stable Diffusion; the paper's is for Imagen.
    config.optim.update({"name": "adam", "learning_rate": 1e-3, "warmup_steps": 500})
    return config.lock()
