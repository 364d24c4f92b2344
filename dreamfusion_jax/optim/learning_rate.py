"""Learning rates over the steps of a run."""

import jax.numpy as jnp
import optax


def warmup_cosine(
    total_steps: int,
    *,
    peak: float = 1e-4,
    start: float = 1e-9,
    end: float = 1e-6,
    warmup_steps: int = 3000,
) -> optax.Schedule:
    """Return the paper's schedule: linear from start to peak, then a cosine down to end.

    The warm-up takes `warmup_steps` steps; `end` is reached at step `total_steps` and kept.
    A run that is not longer than the warm-up ends within it, without decay.

    Raises:
      ValueError: a learning rate or a number of steps is negative.
    """
    for name, value in locals().copy().items():
        if value < 0:
            raise ValueError(f"{name} must not be negative; got {value}.")
    decay_steps = max(total_steps - warmup_steps, 1)

    def schedule(count):
        # Not optax.linear_schedule: counted down from the peak, f32 loses a start this small.
        rising = start + (peak - start) * count / max(warmup_steps, 1)
        progress = jnp.clip((count - warmup_steps) / decay_steps, 0.0, 1.0)
        falling = end + (peak - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return jnp.where(count < warmup_steps, rising, falling)

    return schedule
