"""Shapes in signatures are checked at run time while the tests run."""

import pathlib
import sys

from jaxtyping import install_import_hook

sys.path.insert(0, str(pathlib.Path(__file__).parent))
# Before any module of the package is imported.
install_import_hook("dreamfusion_jax", "typechecker.check")
