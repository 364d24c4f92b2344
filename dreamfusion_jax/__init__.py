"""Text-to-3D by score distillation (DreamFusion) in pure JAX."""

import warnings

from dreamfusion_jax.xla_flags import prefer_fast_convolutions

__version__ = "0.1.0"

prefer_fast_convolutions()
# TensorFlow Probability, through distrax: with `python -W error` it could not be imported.
warnings.filterwarnings("ignore", r"jax\.core\.pytype_aval_mappings", DeprecationWarning)


_PUBLIC = (
    "Result",
    "evaluate",
    "evaluate_clip",
    "evaluate_meshes",
    "evaluate_retrieval_evaluator",
    "evaluate_prior",
    "export_all",
    "export_mesh",
    "generate",
    "generate_many",
    "render",
    "sample",
    "view",
)


def __getattr__(name: str):
    # Imported on first use: `import dreamfusion_jax` alone stays instant.
    if name in _PUBLIC:
        from dreamfusion_jax import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *_PUBLIC]
