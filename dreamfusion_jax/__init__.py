"""Text-to-3D by score distillation (DreamFusion) in pure JAX."""

from typing import TYPE_CHECKING

from dreamfusion_jax.errors import UserError

if TYPE_CHECKING:
    from dreamfusion_jax.api import *

__version__ = "0.1.0"
# The public names, which nothing else lists: `api` has all but UserError.
__all__ = [
    "Result",
    "UserError",
    "evaluate",
    "export_all",
    "export_mesh",
    "generate",
    "generate_many",
    "render",
    "sample",
    "view",
]


def __getattr__(name: str):
    # Imported on first use: `import dreamfusion_jax` alone stays instant.
    if name in __all__:
        from dreamfusion_jax import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
