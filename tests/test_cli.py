import argparse
import errno
import inspect
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from dreamfusion_jax import api, cli, registry
from dreamfusion_jax.cli.options import color
from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.evaluator_training import train_evaluator
from dreamfusion_jax.furniture.prior_data import load_data
from dreamfusion_jax.furniture.prior_training import train_prior
from dreamfusion_jax.furniture.suites import PriorSuite
from dreamfusion_jax.io import replacing, write_bytes
from dreamfusion_jax.suites import ClipSuite
from dreamfusion_jax.train.parallel import initialize_distributed
from dreamfusion_jax.train.workdir import (
    create_or_check_folder,
    create_or_check_workdir,
    lock_workdir,
)


def run(capsys, *arguments: str) -> tuple[int, str]:
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.err + captured.out


# The functions that a command calls with its options.
CALLED = {
    "generate": (api.generate, api.generate_many, api.view, initialize_distributed),
    "view": (api.view,),
    "render": (api.render,),
    "export": (api.export_mesh,),
    "sample": (api.sample,),
    "evaluate": (ClipSuite.evaluate, PriorSuite.evaluate),
    "train-prior": (load_data, train_prior),
    "train-evaluator": (train_evaluator,),
}
COMMANDS = tuple(CALLED)
# Defaults that are no constant but found out: the functions have None there, or no such argument.
FOUND_OUT = {
    *(("generate", "workdir"), ("generate", "seed"), ("evaluate", "prompts"), ("evaluate", "out")),
    *(("render", "out"), ("render", "frames"), ("render", "light"), ("render", "step")),
    *(("view", "step"), ("export", "out"), ("export", "threshold"), ("export", "step")),
    ("train-prior", "source"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "usage: dreamfusion " + command in output and "--plugin FILE.py" in output


def test_every_command_is_tested():
    assert set(registry.names("command")) == set(COMMANDS)


def test_help_needs_no_jax():
    """Which would take a second to import."""
    code = "import contextlib, sys\nfrom dreamfusion_jax import cli\n"
    code += "for command in sys.argv[1:]:\n"
    code += "    with contextlib.suppress(SystemExit): cli.main([command, '--help'])\n"
    code += "sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(COMMANDS)


def options_of(command: str) -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    registry.class_of("command", command).add_arguments(parser)
    return parser._actions


def default_of(command: str, name: str):
    """Of the first function that has such an argument; None where there is none."""
    for function in CALLED[command]:
        parameter = inspect.signature(function).parameters.get(name)
        if parameter is not None:
            return None if parameter.default is parameter.empty else parameter.default
    return None


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_those_of_the_functions(command):
    """What a help text says, and what an option has as its own."""
    for option in options_of(command):
        default, own = default_of(command, option.dest), option.default
        stated = re.search(r"\(default: ([^;)]*)", option.help % {"default": own})
        is_switch = isinstance(option, argparse._StoreTrueAction)
        if own not in (None, argparse.SUPPRESS, []):
            assert stated and stated[1] == str(own) and default in (None, own), option.dest
        elif default is not None and not is_switch:
            assert stated, f"--help says no default of {option.dest}"
            said = option.type(stated[1]) if option.type else stated[1]
            said = tuple(said) if isinstance(said, list) else said
            rounded = pytest.approx(default, abs=1 / 255) if option.type is color else default
            assert said == rounded, option.dest
        else:
            assert bool(stated) == ((command, option.dest) in FOUND_OUT), option.dest


EVERY_OPTION = {
    "render": [
        *("--show=color,depth", "--path=spiral", "--frames=3", "--size=16", "--elevation=1"),
        *("--light=1,2", "--light-color=red", "--ambient-color=#000000", "--transparent"),
        *("--fps=3", "--step=4", "--out=a.png"),
    ],
    "view": ["--port=1", "--step=2"],
    "export": [
        *("--out=a.stl", "--resolution=9", "--triangles=0", "--texture=64", "--mm=1"),
        *("--threshold=1", "--centered", "--step=3"),
    ],
    "sample": [
        *("--prior=a", "--dtype=bfloat16", "--method=sds", "--count=2", "--size=8", "--steps=3"),
        *("--sds-steps=4", "--guidance=5", "--sds-guidance=6", "--seed=7", "--out=a.png"),
    ],
}


@pytest.mark.parametrize("command", EVERY_OPTION)
@pytest.mark.parametrize("every", [False, True])
def test_options_that_are_given_reach_the_function(command, every, monkeypatch):
    (function,) = CALLED[command]
    signature, calls = inspect.signature(function), []
    monkeypatch.setattr(
        api, function.__name__, lambda *a, **k: calls.append(signature.bind(*a, **k))
    )
    flags = EVERY_OPTION[command] if every else []
    assert cli.main([command, "x", *flags]) == 0
    (call,) = calls
    always = {"workdir", "prompt", "out", "progress"}
    given = {name for name in call.arguments if name not in always}
    wanted = {option.dest for option in options_of(command)} - always if every else set()
    assert given == wanted


@pytest.mark.parametrize(
    ("flags", "port"), [(["--view"], 8080), (["--view", "--port=9"], 9), (["--port=9"], None)]
)
def test_a_page_has_the_port_of_view(flags, port, monkeypatch, tmp_path):
    calls = []

    def generate(prompt, **how):
        calls.append(how)
        return api.Result(tmp_path, tmp_path / "a.mp4", tmp_path / "a.glb", (), [])

    monkeypatch.setattr(cli.generate, "_check_overrides", lambda *_: None)
    monkeypatch.setattr(api, "generate", generate)
    assert cli.main(["generate", "a cat", *flags]) == 0
    assert calls == [{"config": "quick"} | ({"viewer_port": port} if port else {})]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", " "), "prompt is empty"),
        (("generate", "cat " * 200), "at most 400 characters"),
        (("generate", "a cat", "--config=fast"), "no config 'fast'"),
        (("generate", "a cat", "--config.train.stepz=5"), "Did you mean train.steps"),
        (("generate", "a cat", "--config.train.steps=five"), "not 'five'"),
        (("generate", "a cat", "--steps=5"), "'--steps=5' is not known"),
        (("generate", "--config.train.steps", "five", "a cat"), "not 'five'"),
        (("generate", "a cat", "--config.train.steps"), "has no value"),
        (("generate", "a cat", "--config.seed", "--view"), "has no value"),
        (("generate", "a cat", "--workdir=gs://bucket/cat"), "gs://bucket/cat is an address"),
        (("generate", "a cat", "--init=/no/such/run"), "no config.json"),
        (("generate", "a cat", "--profile=20"), "--profile takes N:M"),
        (("generate", "a cat", "--profile=5:5"), "not '5:5'"),
        (("generate", "a cat", "--profile=590:601"), "the 600 steps of the run, not '590:601'"),
        (("generate", "a cat", "--seeds=0,1", "--profile=0:5"), "give one prompt and one seed"),
        (("train-prior", "--profile=-1:5"), "--profile takes N:M"),
        (("render", "s3://bucket/cat"), "s3://bucket/cat is an address"),
        (("render", "x", "--out=hf://frames"), "is an address"),
        (("render", "x", "--out=film.AVI"), "must end in .mp4"),
        (("render", "x", "--out=frames.v1"), "no config.json"),
        (("render", "x", "--out=film.MP4"), "no config.json"),
        (("export", "x", "--out=mesh.GLB"), "no config.json"),
        (("export", "x", "--threshold=0"), "threshold is 0.0"),
        (("evaluate", "x", "--out=gs://bucket/e.json"), "is an address"),
        (
            ("generate", "a cat", "--config.prior.name=/no/such/folder"),
            "no prior '/no/such/folder'",
        ),
        (("generate", "a cat", "--config.train.image_size=48"), "does not divide"),
        (("render", "/no/such/run"), "no config.json"),
        (("render", "/no/such/run", "--size=2"), "size 2"),
        (("render", "x", "--config.seed=1"), "takes no --config values"),
        (("render", "x", "--show=color,speed"), "speed cannot be shown"),
        (("render", "x", "--out=film.avi"), "must end in .mp4"),
        (("render", "x", "--transparent"), "no transparency"),
        (("render", "x", "--light=30"), "AZIMUTH,ELEVATION"),
        (("render", "x", "--light-color=bluish"), "is no color"),
        (("export", "x", "--out=mesh.stl3"), "must end in"),
        (("export", "x", "--texture=9000"), "texture size is 9000"),
        (("export", "x", "--triangles=10"), "triangle budget is 10"),
        (("export", "x", "--out=a.stl", "--mm=-1"), "-1.0 mm"),
        (("sample", "a cat", "--count=0"), "at least 1"),
        (("evaluate", "/no/such/run"), "no config.json"),
        (("evaluate", "--suite=clip", "/no/such/run"), "neither the folder of a run nor"),
        (("evaluate", "--suite=clip"), "nothing to rank"),
        (("evaluate", "--suite=clip", "--clip=/no"), "--prompts=captions.txt"),
        (("evaluate", "--suite=clip", "--azimuths=0"), "at least 1"),
        (("evaluate", "--azimuths=2"), "--azimuths belongs to --suite=clip"),
        (("evaluate", "--suite=mesh", "x", "--gallery=a.png"), "The suite 'mesh' has no 'gallery'"),
        (("evaluate", "--suite=mesh", "outputs/index.html"), "nothing to evaluate"),
        (("evaluate", "--suite=evaluator", "x"), "The suite 'evaluator' takes no runs."),
        (("evaluate", "--suite=prior", "x"), "The suite 'prior' takes no runs but a prior"),
        (("evaluate", "--samples=50", "x"), "--samples belongs to --suite=prior"),
        (("evaluate", "--suite=prior", "--samples=5"), "at least 32 samples"),
        (("evaluate", "x", "--gallery=a.jpg"), "must end in .png"),
        (("sample", "a cat", "--out=a.jpg"), "must end in .png"),
        (
            ("generate", "a", "cat"),
            "'cat' is one too many; a prompt of several",
        ),
        (("generate", "a cat", "--config.prompt=a dog"), "--config.prompt cannot be set"),
        (("generate", "a cat", "--config.workdir=x"), "--config.workdir cannot be set"),
        (("generate", "a cat", "--config=prior_small"), "prior_small has no 'prompt'"),
        (("generate", "a cat", f"--seed={2**70}"), "does not fit into 32 bits"),
        (("sample", "a cat", f"--seed={2**32}"), "does not fit into 32 bits"),
        (("sample", "caf\udce9"), "is not UTF-8 text"),
        (("generate", "a cat", "--config.scene.sampler.fine_samples=0"), "fine_samples is 0"),
        (("generate", "a cat", "--config.eval_camera.focal=0"), "must be above 0"),
        (("train-prior", "--config=quick"), "quick has no 'model'"),
        (("train-prior", "--data=no.deb"), "There is no no.deb"),
        (("train-evaluator", "--data=library", "--config=quick"), "quick has no 'model'"),
        (("generate", "a cat", "--seeds=1,x"), "whole numbers"),
        (("generate", "a cat", "--seeds=1,1"), "must be different"),
        (("generate", "a cat", "--seeds=1", "--seed=1"), "not both"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, output = run(capsys, *arguments)
    assert code == 2
    assert message in output
    assert len(output.strip().splitlines()) == 1 and "Traceback" not in output
    assert not any(tmp_path.iterdir())


def test_unreadable_model_folder(capsys, tmp_path):
    (tmp_path / "config.json").write_text("{")
    code, output = run(capsys, "generate", "a cat", f"--config.prior.name={tmp_path}")
    assert code == 2 and "config.json is not valid JSON" in output


def config_for(prompt: str):
    config = load_config("quick")
    with config.unlocked():
        config.prompt.text = prompt
    return config


def test_workdir_is_claimed_once(tmp_path):
    workdir = tmp_path / "deep" / "run"
    create_or_check_workdir(workdir, config_for("a cat"))
    written = (workdir / "config.json").read_text()
    create_or_check_workdir(workdir, config_for("a cat"))  # the same run goes on

    other = config_for("a cat")
    with other.unlocked():
        other.train.steps = 3
    for config, message in (
        (config_for("a dog"), "prompt.text 'a cat', not 'a dog'"),
        (other, "train.steps"),
    ):
        with pytest.raises(UserError, match=message):
            create_or_check_workdir(workdir, config)
    assert (workdir / "config.json").read_text() == written
    assert json.loads(written)["prompt"]["text"] == "a cat"


def test_prompts_may_be_corrected_until_a_run_has_begun(tmp_path):
    create_or_check_folder(tmp_path, ["a cat", "a dgo"])
    create_or_check_folder(tmp_path, ["a cat", "a dog"])
    create_or_check_workdir(tmp_path / "a-cat", config_for("a cat"))
    create_or_check_folder(tmp_path, ["a cat", "a dog"])
    with pytest.raises(UserError, match="holds the runs of other prompts"):
        create_or_check_folder(tmp_path, ["a cat"])


def test_a_folder_is_for_one_process(tmp_path):
    with lock_workdir(tmp_path / "a", tmp_path / "b"):
        with (
            pytest.raises(UserError, match="Another process is at work in .*b"),
            lock_workdir(tmp_path / "c", tmp_path / "b"),
        ):
            pass
    with lock_workdir(tmp_path / "b", tmp_path / "c"):  # nothing is held any more
        assert not any((tmp_path / "b").iterdir())


def test_workdir_with_other_things_or_without_permission_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and holds no run"):
        create_or_check_workdir(tmp_path, config_for("a cat"))
    with pytest.raises(UserError, match="Cannot write"):
        create_or_check_workdir(tmp_path / "notes.txt" / "run", config_for("a cat"))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and "dreamfusion 0." in capsys.readouterr().out


def test_home_folders_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_bytes("~/a/b.bin", b"")
    assert (tmp_path / "a" / "b.bin").is_file()


def test_devices_that_are_not_there_are_a_sentence():
    environment = os.environ | {"JAX_PLATFORMS": "tpu"}
    command = [sys.executable, "-W", "error", "-m", "dreamfusion_jax.cli", "render", "x"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "JAX_PLATFORMS is 'tpu'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_before_and_after_the_optimization_end_with_a_sentence(
    number, monkeypatch, capsys, tmp_path
):
    def export(*_, **__):
        with replacing(tmp_path / "a.bin"):
            signal.raise_signal(number)

    monkeypatch.setattr("dreamfusion_jax.api.export_mesh", export)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored
    try:
        code, message = run(capsys, "export", "x")
    finally:
        signal.signal(number, before)
    assert code == 0 and f"stopped by {number.name}" in message
    assert not list(tmp_path.iterdir())  # nothing half written stays


def test_what_file_managers_leave_is_nothing(tmp_path):
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".config-abcdefgh.json").write_bytes(b"{")  # of a process that was killed
    create_or_check_workdir(tmp_path, load_config("quick"))
    assert (tmp_path / "config.json").is_file()


def test_more_steps_are_another_run(tmp_path):
    config = load_config("quick")
    create_or_check_workdir(tmp_path, config)
    override(config, {"train.steps": 1200})
    with pytest.raises(UserError, match=f"--init={tmp_path}"):
        create_or_check_workdir(tmp_path, config)


def test_locks_out_of_order_keep_a_process_out(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", broken)
    with pytest.raises(UserError, match="No locks available"), lock_workdir(tmp_path):
        pass


HELLO = """
from __future__ import annotations
from dataclasses import asdict, dataclass
from dreamfusion_jax.registry import register

@dataclass  # which looks for this file's module
class Options:
    name: str

@register("command", "hello")
class Hello:
    SUMMARY = "say hello"

    @staticmethod
    def add_arguments(parser):
        parser.add_argument("--name")

    @staticmethod
    def run(options):
        print(asdict(Options(**vars(options))))
"""


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("written", ["--plugin={}", "--plugin {}"])
def test_a_plugin_may_add_a_command(place, written, own_registry, capsys, tmp_path):
    (tmp_path / "a.py").write_text(HELLO)
    (tmp_path / "b.py").write_text("print('the second')")
    words = ["hello", "--name=you"]
    words[place:place] = written.format(tmp_path / "a.py").split(" ")
    code, output = run(capsys, *words, f"--plugin={tmp_path / 'b.py'}")
    assert (code, output) == (0, "the second\n{'name': 'you'}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no plug-in"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("def", "cannot be imported: SyntaxError"),
        ("import sys; sys.exit(0)", "cannot be imported: SystemExit(0)"),
        ("import no_such_package", "No module named 'no_such_package'"),
        (HELLO.replace("SUMMARY", "TITLE"), "The command 'hello' must have SUMMARY"),
    ],
)
def test_a_plugin_that_fails_is_a_sentence(text, message, own_registry, capsys, tmp_path):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    code, output = run(capsys, "render", "x", f"--plugin={file}")
    assert code == 2 and message in output and len(output.splitlines()) == 1


def test_a_plugin_without_its_file_is_a_sentence(capsys):
    assert run(capsys, "render", "x", "--plugin") == (
        2,
        "dreamfusion: --plugin has no value; write --plugin=VALUE.\n",
    )


FIELD = """
import flax.linen as nn

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.registry import register
from dreamfusion_jax.scene.fields import Field

@register("field", "linear")
class LinearField(Field):
    @nn.compact
    def __call__(self, mean, variance, step):
        heads = nn.Dense(1 + self.channels)(mean)
        return self.with_blob(heads[..., 0], mean), nn.sigmoid(heads[..., 1:])

def get_config():
    config = load_config("quick")
    override(config, {"scene.field.name": "linear"})
    return config
"""


@pytest.mark.slow
def test_runs_with_a_field_of_ones_own_can_be_rendered_later(own_registry, capsys, tmp_path):
    file, workdir = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(FIELD)
    small = {"train.steps": 2, "train.steps_per_call": 2, "train.batch_size": 1}
    small |= {"train.image_size": 8, "train.checkpoint_every": 2, "train.preview_every": 2}
    small |= {"export.turntable_frames": 2, "export.turntable_size": 16}
    flags = [f"--config.{key}={value}" for key, value in small.items()]
    run(capsys, "generate", "a table", f"--config={file}", f"--workdir={workdir}", *flags)
    del registry._PARTS["field"]["linear"]  # as in another process
    render = ["render", str(workdir), "--size=8", "--frames=2", f"--out={tmp_path / 'sheet.png'}"]
    code, output = run(capsys, *render)
    assert code == 2 and "no field 'linear'" in output
    assert run(capsys, *render, f"--plugin={file}")[0] == 0
    assert (tmp_path / "sheet.png").is_file()
