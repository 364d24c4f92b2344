"""Image to gradient: Score Distillation Sampling, and the full diffusion loss."""

from dreamfusion_jax.guidance.sds import Guidance, diffusion_loss_gradient, sds_gradient

__all__ = ["Guidance", "diffusion_loss_gradient", "sds_gradient"]
