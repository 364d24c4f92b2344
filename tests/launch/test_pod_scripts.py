"""The scripts that drive a TPU pod print what they would run."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time

import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "launch" / "tpu"
PLACE = ("pod", "--zone=us-central2-b")
PROMPT = 'a teddy bear\'s "hat" & $HOME'


def dry_run(script: str, *arguments: str) -> list[list[str]]:
    """The commands that a script prints, split as a shell would."""
    done = subprocess.run(
        ["bash", str(SCRIPTS / script), *PLACE, "--dry-run", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    # What is printed is a shell script: run it, with commands that tell their arguments.
    spies = "\n".join(
        f"{name}() {{ printf '%s\\0' {name} \"$@\" END; }}" for name in ("gcloud", "git")
    )
    listing = subprocess.run(
        ["bash", "-c", f"{spies}\n{done.stdout}"], capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]
    commands: list[list[str]] = [[]]
    for word in listing:
        if word == "END":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands[:-1]


def test_create():
    tpu = ["gcloud", "compute", "tpus"]
    assert dry_run("create.sh", "--type=v4-8") == [
        [*tpu, "tpu-vm", "create", *PLACE, "--accelerator-type=v4-8"]
        + ["--version=tpu-ubuntu2204-base"]
    ]
    (spot,) = dry_run("create.sh", "--type=v5litepod-16", "--version=v2", "--spot")
    assert spot[-3:] == ["--accelerator-type=v5litepod-16", "--version=v2", "--spot"]
    (queued,) = dry_run("create.sh", "--type=v4-32", "--queued", "--spot")
    assert queued[:6] == [*tpu, "queued-resources", "create", "pod"]
    assert "--node-id=pod" in queued and "--spot" in queued


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v5litepod-4", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_each_type_gets_its_runtime(kind, image):
    (created,) = dry_run("create.sh", f"--type={kind}")
    assert f"--version={image}" in created


def call(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize("script", ["create.sh", "run.sh", "setup.sh", "resume.sh", "weights.sh"])
def test_help_is_no_error(script):
    done = call(script, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {script} NAME")


@pytest.mark.parametrize("bucket", ["gs://b/$(reboot)", "gs://b; reboot", "gs://b/a b", "s3://b"])
def test_buckets_that_would_be_commands_are_refused(bucket):
    done = call("run.sh", *PLACE, f"--bucket={bucket}", "--dry-run", "--", "a cat")
    assert done.returncode == 2 and "--bucket" in done.stderr and not done.stdout


@pytest.mark.parametrize("source", ["gs://b/$(reboot)", "gs://b; reboot", "gs://", "s3://b"])
def test_weights_come_from_addresses_and_folders_alone(source):
    done = call("weights.sh", *PLACE, f"--from={source}", "--bucket=gs://b", "--dry-run")
    assert done.returncode == 2 and "--from" in done.stderr and not done.stdout


@pytest.mark.parametrize("path", sorted(SCRIPTS.parent.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_can_be_parsed(path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize(
    ("listed", "given", "extra"),
    [("GPU 0: NVIDIA", "", "cuda"), ("", "", ""), ("GPU 0: NVIDIA", "cpu", ""), ("", "tpu", "tpu")],
)
def test_quickstart_installs_for_the_accelerator(listed, given, extra, tmp_path):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{listed}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ACCELERATOR": given}
    environment.pop("TPU_NAME", None)
    program = f"source {SCRIPTS.parent / 'environment.sh'}; accelerator_extra"
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; {program}"], env=environment, capture_output=True
    )
    assert done.stdout.decode().strip() == extra and done.stderr == b""


def test_run_hands_the_prompt_over_unharmed():
    sync, start = dry_run("run.sh", "--bucket=gs://b/c", "--", PROMPT, "--config=paper")
    assert "--worker=0" in sync and "gs://b/c/outputs.tar" in sync[-1]
    assert "--worker=all" in start
    remote = start[-1].removeprefix("--command=")
    words = shlex.split(remote.split("nohup ")[1])
    assert words[:4] == [".venv/bin/dreamfusion", "generate", PROMPT, "--config=paper"]
    assert "--distributed=on" in words
    assert len(dry_run("run.sh", "--", PROMPT)) == 1


GCLOUD = """#!/bin/sh
if [ -n "$BROKEN" ]; then echo 'ERROR: no network' >&2; exit 1; fi
here() { echo "$1" | sed "s|^gs://|$BUCKETS/|"; }
case $2 in
  ls) [ -f "$(here "$3")" ] || { echo 'One or more URLs matched no objects.' >&2; exit 1; } ;;
  cp) cp "$(here "$3")" "$(here "$4")" ;;
esac
"""


def test_outputs_survive_in_the_bucket(tmp_path, monkeypatch):
    """The worker's script itself, with a folder in the bucket's place and minutes of 0.1 s."""
    tools, bucket = tmp_path / "tools", tmp_path / "buckets" / "b"
    tools.mkdir()
    bucket.mkdir(parents=True)
    (tools / "gcloud").write_text(GCLOUD)
    (tools / "sleep").write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 0.1\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("BUCKETS", str(bucket.parent))
    script = dry_run("run.sh", "--bucket=gs://b", "--", PROMPT)[0][-1].removeprefix("--command=")
    archive = bucket / "outputs.tar"

    def start(machine: str, **environment: str) -> tuple[int, pathlib.Path]:
        folder = tmp_path / machine / "dreamfusion_jax"
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", script], cwd=folder.parent, env=os.environ | environment, check=False
        )
        return done.returncode, folder

    def uploaded(text: str) -> bool:
        """Whether the bucket gets a copy with such a result, within some seconds."""
        for _ in range(100):
            found = subprocess.run(
                ["tar", "-xOf", str(archive), "outputs/result"], capture_output=True, text=True
            )
            if found.stdout == text:
                return True
            time.sleep(0.1)
        return False

    def stop(folder: pathlib.Path) -> None:
        os.kill(int((folder / "sync.pid").read_text()), signal.SIGTERM)

    code, first = start("first")
    assert code == 0 and not (first / "outputs").exists()
    (first / "outputs").mkdir()
    (first / "outputs" / "result").write_text("one")
    assert uploaded("one")
    loop = (first / "sync.pid").read_text()
    (first / "outputs" / "result").write_text("two")
    assert start("first")[0] == 0  # repeated: the disk is newer, and the older loop ends
    assert (first / "outputs" / "result").read_text() == "two" and uploaded("two")
    assert (first / "sync.pid").read_text() != loop
    process = pathlib.Path(f"/proc/{loop.strip()}/cmdline")
    assert not process.exists() or not process.read_bytes()  # gone, or waiting to be buried
    stop(first)

    assert start("second", BROKEN="1")[0] == 1  # not taken for an empty bucket
    code, second = start("second")
    assert code == 0 and (second / "outputs" / "result").read_text() == "two"
    stop(second)


RSYNC = """#!/usr/bin/env python3
import os, pathlib, re, shutil, sys
options = [a for a in sys.argv[1:] if a.startswith("--")]
words = [a for a in sys.argv[1:] if not a.startswith("--")]
assert words[:2] == ["storage", "rsync"] and "--recursive" in options, sys.argv
exclude = re.compile(next(o for o in options if o.startswith("--exclude=")).partition("=")[2])
source, target = (
    pathlib.Path(re.sub("^gs://", os.environ["BUCKETS"] + "/", word)) for word in words[2:]
)
for path in source.rglob("*"):
    name = path.relative_to(source).as_posix()
    copy = target / name
    same = copy.exists() and copy.stat().st_size == path.stat().st_size
    if path.is_file() and not exclude.match(name) and not same:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        print(name)
"""


def test_weights_reach_every_worker_once(tmp_path):
    """A folder of this machine, through a bucket; a folder stands in for gcloud's."""
    tools, worker = tmp_path / "tools", tmp_path / "worker"
    model, buckets = tmp_path / "my 'IF'", tmp_path / "buckets"
    for name in ("unet/a.safetensors", "unet/a.bin", "model_index.json"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name)
    for folder in (tools, worker, buckets / "b" / "IF-I"):
        folder.mkdir(parents=True)
    (tools / "gcloud").write_text(RSYNC)
    (tools / "gcloud").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "BUCKETS": str(buckets),
    }
    up, down = dry_run("weights.sh", f"--from={model}", "--bucket=gs://b/IF-I/")
    assert up[-2:] == [str(model), "gs://b/IF-I/"] and "--worker=all" in down
    assert dry_run("weights.sh", "--from=gs://b/IF-I") == [down]

    def copies(command, folder) -> list[str]:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return sorted(done.stdout.split())

    assert copies(up, tmp_path) == ["model_index.json", "unet/a.safetensors"]
    fetch = ["sh", "-c", down[-1].removeprefix("--command=")]
    assert copies(fetch, worker) == ["model_index.json", "unet/a.safetensors"]
    assert (worker / "dreamfusion_jax/models/IF-I/unet/a.safetensors").is_file()
    (worker / "dreamfusion_jax/models/IF-I/model_index.json").unlink()
    assert copies(fetch, worker) == ["model_index.json"]  # the rest is there


def test_the_life_of_a_pod():
    archive, copy, install = dry_run("setup.sh")
    assert archive[:2] == ["git", "archive"] and archive[-1] == "HEAD"
    assert "scp" in copy and "--worker=all" in copy
    assert "pip install -q --editable '.[tpu]'" in install[-1]
    assert "tail -n 50 -f dreamfusion_jax/run.log" in dry_run("log.sh")[0][-1]
    assert "pod:dreamfusion_jax/outputs" in dry_run("fetch.sh")[0]
    assert dry_run("delete.sh")[0][3:5] == ["tpu-vm", "delete"]
    assert dry_run("delete.sh", "--queued")[0][3:5] == ["queued-resources", "delete"]
    again = dry_run("resume.sh", "--type=v4-32", "--bucket=gs://b", "--spot", "--", PROMPT)
    verbs = [command[4] if command[0] == "gcloud" else command[1] for command in again]
    assert verbs == ["delete", "create", "archive", "scp", "ssh", "ssh", "ssh"]
    place = ("--type=v4-32", "--bucket=gs://b", "--from=gs://w/IF")
    again = dry_run("resume.sh", *place, "--", PROMPT)
    assert "gs://w/IF" in again[5][-1] and "nohup" in again[-1][-1]  # before the run starts


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("create.sh", ["pod", "--zone=z"], "--type is missing"),
        ("create.sh", ["--zone=z", "--type=v4-8"], "the name of the TPU is missing"),
        ("log.sh", ["pod"], "--zone is missing"),
        ("run.sh", ["pod", "--zone=z"], "the prompt is missing"),
        ("run.sh", ["pod", "--zone=z", "--bucket=b", "--", "x"], "must start with gs://"),
        ("resume.sh", ["pod", "--zone=z", "--type=t", "--", "x"], "--bucket is missing"),
        ("weights.sh", ["pod", "--zone=z"], "--from is missing"),
        ("weights.sh", ["pod", "--zone=z", "--from=."], "--bucket is missing"),
        ("weights.sh", ["pod", "--zone=z", "--from=/no/such"], "no folder of this machine"),
        ("delete.sh", ["pod", "--zone=z", "--hard"], "unknown option --hard"),
    ],
)
def test_what_is_missing_is_named(script, arguments, message):
    done = subprocess.run(
        ["bash", str(SCRIPTS / script), "--dry-run", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and "usage: " in done.stderr
