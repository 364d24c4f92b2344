"""Optimizers: Distributed Shampoo, the paper's schedule, and their building from a config."""

from dreamfusion_jax.optim.build import build_optimizer
from dreamfusion_jax.optim.learning_rate import warmup_cosine
from dreamfusion_jax.optim.shampoo import ScaleByShampooState, scale_by_shampoo, shampoo

__all__ = [
    "ScaleByShampooState",
    "build_optimizer",
    "scale_by_shampoo",
    "shampoo",
    "warmup_cosine",
]
