"""Configs work from a checkout that is not installed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_configs_are_read_from_a_checkout(tmp_path):
    (tmp_path / "dreamfusion_jax").symlink_to(ROOT / "dreamfusion_jax")
    (tmp_path / "configs").mkdir()
    for name in ("paper", "quick"):
        text = (ROOT / "configs" / f"{name}.py").read_text()
        (tmp_path / "configs" / f"{name}.py").write_text(text)
    # Without site-packages' .pth files an editable installation is not found.
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, *{sys.path!r}]\n"
    code += "from dreamfusion_jax import config\nprint(config.load_config('quick').train.steps)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert done.stdout == "600\n", done.stderr
