"""Text-to-3D by score distillation (DreamFusion) in pure JAX."""

from dreamfusion_jax.xla_flags import prefer_fast_convolutions

__version__ = "0.1.0"

prefer_fast_convolutions()


def __getattr__(name: str):
    # Imported on first use: `import dreamfusion_jax` alone stays instant.
    if name in ("generate", "generate_many", "Result"):
        from dreamfusion_jax import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
