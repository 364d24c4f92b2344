"""The names that notebooks and users rely on."""

import inspect
import subprocess
import sys

import pytest

import dreamfusion_jax
from dreamfusion_jax import diffusion, guidance, optim


def test_stable_names():
    parameters = [*inspect.signature(dreamfusion_jax.generate).parameters]
    assert parameters[:3] == ["prompt", "config", "workdir"]
    assert callable(dreamfusion_jax.generate_many) and dreamfusion_jax.Result
    assert callable(diffusion.load_prior) and diffusion.Prior
    arguments = [*inspect.signature(guidance.sds_gradient).parameters]
    assert arguments[:5] == ["prior", "params", "image", "embeddings", "key"]
    assert callable(optim.shampoo)
    for module in (dreamfusion_jax, diffusion):
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = module.nonsense


def test_importing_the_package_imports_nothing_heavy():
    code = "import dreamfusion_jax, sys; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
