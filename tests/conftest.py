"""Shapes in signatures are checked at run time while the tests run."""

from jaxtyping import install_import_hook

# Before any module of the package is imported.
install_import_hook("dreamfusion_jax", "beartype.beartype")
