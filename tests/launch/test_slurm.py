"""The batch script for Slurm, with an srun that tells its arguments."""

import os
import pathlib
import subprocess

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "slurm.sh"
PROMPT = 'a teddy bear\'s "hat" & $HOME'


def submit(tmp_path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    (tmp_path / "srun").write_text("#!/bin/sh\npwd\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "srun").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path)}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | path | environment,
    )


def test_one_task_a_node_with_all_gpus():
    lines = SCRIPT.read_text().splitlines()
    options = [line.split()[1] for line in lines if line.startswith("#SBATCH")]
    assert "--ntasks-per-node=1" in options and "--gpus-per-node=8" in options
    assert "--signal=TERM@120" in options  # to the steps, not to the script alone (B:)


def test_the_prompt_is_handed_over_unharmed(tmp_path):
    done = submit(tmp_path, PROMPT, "--config=paper", SLURM_CPUS_PER_TASK="12")
    assert done.returncode == 0, done.stderr
    folder, *words = done.stdout.splitlines()
    assert folder == str(tmp_path)
    assert words[-4:] == [".venv/bin/dreamfusion", "generate", PROMPT, "--config=paper"]
    assert "--cpus-per-stage=12" in words and "--kill-on-bad-exit=1" in words


def test_in_a_container(tmp_path):
    done = submit(tmp_path, PROMPT, IMAGE="my image.sif")
    words = done.stdout.splitlines()[-6:]
    assert words == ["apptainer", "run", "--nv", "my image.sif", "generate", PROMPT]


def test_without_a_prompt_it_says_how(tmp_path):
    done = submit(tmp_path)
    assert done.returncode == 2 and done.stdout == "" and "usage: sbatch" in done.stderr
