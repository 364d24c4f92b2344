"""The image's Dockerfile, as far as it can be checked without building it."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
JOBSET = ROOT / "launch" / "tpu" / "jobset.yaml"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, lines joined."""
    text = (ROOT / "launch" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def copied() -> dict[str, str]:
    """What is copied from the repository, and where to."""
    pairs = {}
    for name, arguments in instructions():
        words = arguments.split()
        if name == "COPY" and not words[0].startswith("--"):
            for source in words[:-1]:
                pairs[source] = words[-1]
    return pairs


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"  # all but what is named
    assert copied() and {f"!{source}" for source in copied()} == {
        line for line in ignored if line.startswith("!")
    }
    for source in copied():
        assert (ROOT / source).exists()


@pytest.mark.slow
def test_the_wheel_can_be_built_of_it(tmp_path):
    """It has the command, the configs and the default prior."""
    folder = tmp_path / "source"
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for source, target in copied().items():
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, folder / target, ignore=ignore)
        else:
            shutil.copy(path, folder / target)
    (build,) = (a for name, a in instructions() if name == "RUN" and a.startswith("pip wheel"))
    command = build.replace("/wheels", str(tmp_path)).split()
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True
    )
    if "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("pip has no network to fetch setuptools from")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"dreamfusion_jax/configs/quick.py", "dreamfusion_jax/cli/__main__.py"} <= {*names}
    assert any(name.startswith("dreamfusion_jax/furniture/assets/object_views/") for name in names)
    assert any(name.endswith("NOTICE") for name in names)


@pytest.mark.parametrize(("extra", "wanted"), [("cpu", ""), ("tpu", "[tpu]"), ("cuda", "[cuda]")])
def test_the_extra_is_one_of_the_package(extra, wanted, tmp_path):
    """The shell's own reading of the step that installs it."""
    setup = (ROOT / "setup.py").read_text()
    assert extra == "cpu" or f'"{extra}": [' in setup
    (install,) = (a for name, a in instructions() if name == "RUN" and "pip install" in a)
    script = install.partition("&& useradd")[0].replace("/wheels", str(tmp_path))
    (tmp_path / "a.whl").touch()
    program = f"EXTRA={extra}; pip() {{ printf '%s\\n' \"$@\"; }}; {script}"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{tmp_path}/a.whl{wanted}"
    assert ("ARG", "EXTRA=cpu") in instructions()


def test_it_runs_the_command_and_not_as_root():
    of = dict(instructions())
    assert json.loads(of["ENTRYPOINT"]) == ["dreamfusion"]
    assert of["USER"] == "1000"
    assert instructions().index(("USER", "1000")) > max(
        i for i, (name, _) in enumerate(instructions()) if name == "RUN"
    )


def test_the_job_set_runs_this_image():
    text = JOBSET.read_text()
    pod = yaml.safe_load(text)["spec"]["replicatedJobs"][0]["template"]["spec"]
    spec = pod["template"]["spec"]
    (container,) = spec["containers"]
    comment = "".join(re.findall(r"(?m)^#(.*)$", text))
    build = f"docker build -f launch/Dockerfile --build-arg EXTRA=tpu -t {container['image']} ."
    assert build in comment
    assert container["command"][:2] == ["sh", "-c"]  # in the entrypoint's place
    assert container["command"][2].startswith("dreamfusion generate ")
    # The user of the image can write to the volume.
    assert spec["securityContext"] == {"runAsUser": 1000, "fsGroup": 1000}
    (mount,) = container["volumeMounts"]
    assert f"--workdir={mount['mountPath']}/" in container["command"][2]
    assert pod["parallelism"] == pod["completions"] == 4
