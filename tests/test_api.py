import json
import os
import signal
import subprocess
import sys
import time

import imageio_ffmpeg
import jax
import numpy as np
import PIL.Image
import pytest
import trimesh

import dreamfusion_jax
from dreamfusion_jax import cli
from dreamfusion_jax.furniture.object_views import load_ground_truth
from dreamfusion_jax.furniture.suite import score_scene
from dreamfusion_jax.train.checkpoint import restore_run

SMALL = {
    "train.steps": 60,
    "train.image_size": 16,
    "train.steps_per_call": 10,
    "train.checkpoint_every": 20,
    "train.preview_every": 20,
    "stages.surface.train.image_size": 32,
    "stages.surface.scene.cells": 16,
    "scene.field.cells": 32,
    "scene.sampler.cells": 32,
    "scene.sampler.coarse_samples": 16,
    "scene.sampler.fine_samples": 8,
    "export.turntable_frames": 4,
    "export.turntable_size": 32,
    "export.mesh_resolution": 32,
}
FLAGS = [f"--config.{key}={value}" for key, value in SMALL.items()]


@pytest.mark.slow
def test_prompt_to_files(tmp_path, capsys):
    workdir = tmp_path / "run"
    result = dreamfusion_jax.generate(
        "a shiny teddy bear", workdir=workdir, progress=False, **SMALL
    )
    assert "makes a teddy bear and ignores: shiny" in capsys.readouterr().err
    assert [p.name for p in result.images] == ["000020.png", "000040.png", "000060.png"]
    assert [row["step"] for row in result.metrics] == [10, 20, 30, 40, 50, 60]
    assert all(np.isfinite(list(row.values())).all() for row in result.metrics)

    frames = imageio_ffmpeg.read_frames(str(result.video))
    assert next(frames)["size"] == (96, 32)
    assert np.frombuffer(next(frames), np.uint8).std() > 5
    mesh = trimesh.load(result.mesh, force="mesh")
    assert len(mesh.faces) > 50 and mesh.extents.max() < 1.2
    report = (workdir / "report.html").read_text()
    assert "a shiny teddy bear" in report and "data:video/mp4" in report

    # Nothing is done again for a finished run, and its files can be made anew.
    before = (workdir / "metrics.jsonl").read_text()
    assert cli.main(["generate", "a shiny teddy bear", f"--workdir={workdir}", *FLAGS]) == 0
    assert (workdir / "metrics.jsonl").read_text() == before
    assert cli.main(["render", str(workdir), "--size=24", f"--out={tmp_path / 'sheet.png'}"]) == 0
    assert PIL.Image.open(tmp_path / "sheet.png").size == (4 * 24, 3 * 24)
    shots = tmp_path / "shots"
    command = ["render", str(workdir), "--size=16", "--frames=2", "--show=shaded,depth"]
    assert cli.main([*command, f"--out={shots}", "--transparent", "--light=90,30"]) == 0
    assert len(list(shots.glob("*.png"))) == 4
    for suffix in ("ply", "obj", "stl"):
        out = tmp_path / f"mesh.{suffix}"
        assert cli.main(["export", str(workdir), "--resolution=24", f"--out={out}"]) == 0
        assert len(trimesh.load(out, force="mesh").faces) > 50
    scores = tmp_path / "scores.json"
    assert cli.main(["evaluate", str(workdir), f"--out={scores}"]) == 0
    assert json.loads(scores.read_text())["runs"][0]["scores"]["noun"] == "teddy bear"
    assert "Agreement with the true object" in (workdir / "report.html").read_text()


@pytest.mark.slow
def test_a_killed_run_ends_like_an_unbroken_one(tmp_path):
    """Preemption is tested with several hosts, in train/test_hosts.py."""
    arguments = ["generate", "a teddy bear", *FLAGS, "--config.train.steps=120"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "dreamfusion_jax.cli", *arguments, f"--workdir={broken}"],
        stderr=subprocess.PIPE,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(jax.device_count())},
    )
    deadline = time.time() + 200
    while not (broken / "checkpoints" / "40").is_dir() and time.time() < deadline:
        time.sleep(0.05)
    process.kill()
    messages = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, messages
    assert not (broken / "mesh.glb").exists()  # it was still training
    assert cli.main([*arguments, f"--workdir={broken}"]) == 0
    settings = SMALL | {"train.steps": 120}
    dreamfusion_jax.generate_many(["a teddy bear"], workdir=whole, export=False, **settings)
    whole = whole / "a-teddy-bear"
    a, b = (jax.tree.leaves(restore_run(workdir).params) for workdir in (broken, whole))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_prompts_of_a_file(tmp_path, capsys):
    prompts, folder = tmp_path / "prompts.txt", tmp_path / "runs"
    prompts.write_text("a teapot\na barrel\na table\n")  # two together, then one
    command = ["generate", f"--prompts={prompts}", f"--workdir={folder}", *FLAGS]
    command.append("--config.train.steps=20")
    assert cli.main(command) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(folder / name) for name in ("a-teapot", "a-barrel", "a-table")
    ]
    reports = [path.stat().st_mtime_ns for path in sorted(folder.glob("*/report.html"))]
    assert len(reports) == 3 and len(list(folder.glob("*/mesh.glb"))) >= 1
    assert restore_run(folder / "a-barrel").config.prompt.text == "a barrel"

    assert cli.main(command) == 0  # finished: nothing is made again
    assert [path.stat().st_mtime_ns for path in sorted(folder.glob("*/report.html"))] == reports

    prompts.write_text("a teapot\na sofa\n")
    assert cli.main(command) == 2
    assert "holds the runs of other prompts ('a sofa' is in one only)" in capsys.readouterr().err
    assert cli.main(["generate", f"--prompts={prompts}", "a cat"]) == 2
    assert cli.main(["generate"]) == 2
    assert cli.main(["generate", f"--prompts={prompts}", f"--workdir={tmp_path}", *FLAGS]) == 2
    assert "holds no runs of a prompts file" in capsys.readouterr().err


@pytest.mark.slow
def test_every_prompt_with_every_seed(tmp_path, capsys):
    prompts, folder = tmp_path / "prompts.py", tmp_path / "sweep"  # as Dream Fields' are published
    prompts.write_text("queries = ['A teapot ', 'a barrel']\n")
    command = ["generate", f"--prompts={prompts}", f"--workdir={folder}", *FLAGS]
    command.append("--config.train.steps=40")
    assert cli.main([*command, "--seeds=3"]) == 0
    assert cli.main([*command, "--seeds=3,1"]) == 0  # only what is new is made
    expected = ["a-barrel-seed-1", "a-barrel-seed-3", "a-teapot-seed-1", "a-teapot-seed-3"]
    assert sorted(path.parent.name for path in folder.glob("*/report.html")) == expected
    logs = [(folder / name / "metrics.jsonl").read_text() for name in expected]
    assert len(set(logs)) == 4
    assert restore_run(folder / "a-teapot-seed-3").config.seed == 3
    page = (folder / "index.html").read_text()
    assert "4 of 4 runs are finished" in page and 'href="./a-barrel-seed-1/report.html"' in page

    capsys.readouterr()
    (tmp_path / "captions.txt").write_text("A teapot.\na barrel\na table\n")
    folders = sorted(map(str, folder.glob("[!.]*")))  # as in a shell: the page is among them
    command = ["evaluate", "--suite=clip", "--azimuths=2", *folders]
    command += [f"--prompts={tmp_path / 'captions.txt'}", f"--out={tmp_path / 'r.json'}"]
    assert cli.main([*command, f"--gallery={tmp_path / 'r.html'}"]) == 0
    scores = json.loads((tmp_path / "r.json").read_text())
    assert len(scores["runs"]) == 4 and list(scores["prompts"]) == ["a barrel", "A teapot."]
    assert set(scores["mean"]) == {"color", "albedo", "geo"} and scores["captions"] == 3
    assert {run["seed"] for run in scores["runs"]} == {1, 3}
    assert all(len(ranks) == 2 for run in scores["runs"] for ranks in run["ranks"].values())
    assert (tmp_path / "r.html").read_text().count("data:image/png") == 4

    # A run that is not finished has no place in the table.
    config = json.loads((folder / "a-barrel-seed-1" / "config.json").read_text())
    config["train"]["steps"] = 50
    (folder / "a-barrel-seed-1" / "config.json").write_text(json.dumps(config))
    assert cli.main(command) == 2
    assert "is at step 40 of 50; finish it" in capsys.readouterr().err


@pytest.mark.slow
def test_distillation_recovers_a_silhouette(tmp_path):
    """Score distillation from the shipped pictures makes the shape of the true object."""
    settings = SMALL | {"train.steps": 200}
    how = {"workdir": tmp_path, "progress": False, "export": False}
    (result,) = dreamfusion_jax.generate_many(["a teddy bear"], **how, **settings)
    run, ground_truth = restore_run(result.workdir), load_ground_truth("teddy bear")
    start = run.scene.init(jax.random.key(0))
    ious = [score_scene(run.scene, p, "teddy bear", ground_truth).iou for p in (start, run.params)]
    assert ious[1] > 0.65 and ious[1] > ious[0] + 0.15
