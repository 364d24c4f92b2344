"""Image to gradient: Score Distillation Sampling, the full diffusion loss, and CLIP."""

from dreamfusion_jax.guidance.base import Guidance
from dreamfusion_jax.guidance.clip import ClipGuidance
from dreamfusion_jax.guidance.sds import SDS, DiffusionLoss, diffusion_loss_gradient, sds_gradient

__all__ = [
    "SDS",
    "ClipGuidance",
    "DiffusionLoss",
    "Guidance",
    "diffusion_loss_gradient",
    "sds_gradient",
]
