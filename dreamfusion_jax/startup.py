"""What is done before JAX starts: by the command line, and by the public functions."""

from dreamfusion_jax.compile_cache import keep_programs
from dreamfusion_jax.xla_flags import prefer_fast_convolutions


def prepare_jax() -> None:
    """Choose fast convolutions and keep compiled programs. A second call changes nothing."""
    prefer_fast_convolutions()
    keep_programs()
