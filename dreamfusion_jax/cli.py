"""The `dreamfusion` command."""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamfusion_jax import __version__
from dreamfusion_jax.errors import Preempted, UserError

EXAMPLES = """examples:
  dreamfusion generate "a teddy bear"
  dreamfusion generate "an armchair" --seed=1 --config.train.steps=500
  dreamfusion generate --prompts=prompts.txt
  dreamfusion view outputs/a-teddy-bear
  dreamfusion render outputs/a-teddy-bear --size=256
  dreamfusion sample "a teddy bear, front view" --out=samples.png
  dreamfusion evaluate --suite=furniture outputs/*
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 2 for bad input, 130 after Ctrl-C, else 0."""
    logging.basicConfig(format="dreamfusion: %(message)s")
    try:
        arguments = _joined(sys.argv[1:] if arguments is None else arguments)
        options, rest = _parser().parse_known_args(arguments)
        options.overrides = _config_overrides(rest)
        if options.overrides and not hasattr(options, "config"):
            raise UserError(f"`dreamfusion {options.command}` takes no --config values.")
        from dreamfusion_jax.startup import prepare_jax  # imports JAX: not for --help
        from dreamfusion_jax.train.parallel import check_devices
        from dreamfusion_jax.train.preemption import stop_on_signals

        prepare_jax()
        with stop_on_signals():
            if options.command != "generate":  # which may join other hosts first
                check_devices()
            options.run(options)
    except UserError as error:
        print(f"dreamfusion: {error}", file=sys.stderr)
        return 2
    except Preempted as stop:
        print(f"dreamfusion: {stop}; repeat the command to go on.", file=sys.stderr)
    except KeyboardInterrupt:
        print("dreamfusion: stopped; repeat the command to go on.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dreamfusion",
        description="Text-to-3D by score distillation in pure JAX.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dreamfusion {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    p = _command(commands, "generate", _generate, "turn prompts into 3D objects")
    p.add_argument("prompt", nargs="?", help='what to make, for example "a teddy bear"')
    p.add_argument(
        "--prompts",
        metavar="FILE",
        help="instead of one prompt: a text file with one a line (or what evaluate --prompts "
        "takes); config.train.scenes of them are optimized together",
    )
    _add_config(p, "quick")
    p.add_argument(
        "--workdir",
        help="folder of the results (default: outputs/<prompt>, or outputs/<name of the file>)",
    )
    p.add_argument("--seed", type=int, help="random seed (default: the config's)")
    p.add_argument("--seeds", help="several, with commas: every prompt is made with each of them")
    p.add_argument(
        "--init",
        metavar="WORKDIR",
        help="start from the scene of another run, which has the same kind of field",
    )
    p.add_argument(
        "--view", action="store_true", help="show the scene in the browser while it forms"
    )
    p.add_argument("--port", type=int, default=8080, help="of that page (default: 8080)")
    _add_profile(p)
    _add_hosts(p)

    p = _command(commands, "render", _render, "render a video or pictures of a run")
    p.add_argument("workdir", help="folder of a run")
    p.add_argument(
        "--out",
        help=".mp4, .gif or .webp: a video; .png: a sheet; else a folder for PNG files with 16-bit "
        "depth and transforms.json (default: WORKDIR/render.mp4)",
    )
    p.add_argument(
        "--show",
        default="color,normals,depth",
        help="of color, shaded, textureless, normals, depth, opacity; with commas "
        "(default: color,normals,depth)",
    )
    p.add_argument(
        "--path",
        default="turntable",
        help="of the camera: turntable, swing, spiral, or a .json file (default: turntable)",
    )
    p.add_argument("--frames", type=int, help="of the path (default: 48; 4 in a sheet)")
    p.add_argument("--size", type=int, default=128, help="pixels of each picture (default: 128)")
    p.add_argument("--elevation", type=float, default=15.0, help="degrees (default: 15)")
    p.add_argument(
        "--light", help="AZIMUTH,ELEVATION of the light in degrees (default: above the camera)"
    )
    p.add_argument("--light-color", default="#b2b2b2", help="of the light (default: #b2b2b2)")
    p.add_argument("--ambient-color", default="#4d4d4d", help="from everywhere (default: #4d4d4d)")
    p.add_argument("--transparent", action="store_true", help="alpha in place of white")
    p.add_argument("--fps", type=int, default=16, help="frames a second (default: 16)")

    _add_step(p)

    p = _command(commands, "view", _view, "look at a run in the browser, while it forms or later")
    p.add_argument("workdir", help="folder of a run")
    p.add_argument("--port", type=int, default=8080, help="of the page (default: 8080)")
    _add_step(p)

    p = _command(commands, "export", _export, "write the mesh of a run")
    p.add_argument("workdir", help="folder of a run")
    p.add_argument(
        "--out",
        help=".glb or .obj (textured), .ply (vertex colors) or .stl (default: WORKDIR/mesh.glb)",
    )
    p.add_argument(
        "--resolution", type=int, default=128, help="grid points along an edge (default: 128)"
    )
    p.add_argument(
        "--triangles",
        type=int,
        default=20_000,
        help="budget; 0: all (default: 20000)",
    )
    p.add_argument(
        "--texture", type=int, default=1024, help="pixels of the texture's side (default: 1024)"
    )
    p.add_argument(
        "--mm", type=float, default=100.0, help="longest side of an .stl file (default: 100)"
    )
    p.add_argument(
        "--threshold",
        type=float,
        help="density of the surface (default: where the transmittance of rays falls to one half)",
    )
    p.add_argument(
        "--centered",
        action="store_true",
        help="keep the scene's origin, the object's middle; else a .glb, .obj or .stl stands on 0",
    )
    _add_step(p)

    p = _command(
        commands, "sample", _sample, "draw images from a prior: ancestral sampling beside SDS"
    )
    p.add_argument("prompt", help='for example "a teddy bear, front view"')
    p.add_argument(
        "--prior", default="embedded", help="name or folder of the prior (default: embedded)"
    )
    p.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of a network's parameters and computation (default: float32)",
    )
    p.add_argument("--method", choices=("both", "ancestral", "ddim", "sds"), default="both")
    p.add_argument("--count", type=int, default=4, help="images of each kind (default: 4)")
    p.add_argument(
        "--size",
        type=int,
        default=32,
        help="pixels of furniture-views, a divisor of 64 (default: 32); networks have their own",
    )
    p.add_argument("--steps", type=int, default=64, help="sampling steps (default: 64)")
    p.add_argument("--sds-steps", type=int, default=300, help="SDS steps (default: 300)")
    p.add_argument("--guidance", type=float, default=3.0, help="omega of the samplers (default: 3)")
    p.add_argument("--sds-guidance", type=float, default=20.0, help="omega of SDS (default: 20)")
    p.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    p.add_argument("--out", default="samples.png", help="picture to write (default: samples.png)")

    p = _command(commands, "evaluate", _evaluate, "score runs against the true objects, or a prior")
    p.add_argument("runs", nargs="*", metavar="WORKDIR", help="folders of finished runs")
    p.add_argument(
        "--suite",
        choices=("furniture", "clip", "mesh", "prior", "judge"),
        default="furniture",
        help="furniture: runs against the true objects (default); clip: R-Precision of runs or "
        "folders of pictures; mesh: the runs' mesh.glb against their fields; prior: a prior; "
        "judge: the judge that ships",
    )
    p.add_argument(
        "--clip",
        metavar="FOLDER",
        help="of --suite=clip: a CLIP model, or embedded, the judge that ships (default)",
    )
    p.add_argument(
        "--prompts",
        metavar="FILE",
        help="of --suite=clip: all captions, one a line; also .json, Dream Fields' .py, or "
        "coco_captions:FILE with ids (default with embedded: the library's nouns)",
    )
    p.add_argument("--azimuths", type=int, help="of --suite=clip: views of a run (default: 8)")
    p.add_argument("--elevation", type=float, help="of these views, degrees (default: 30)")
    p.add_argument("--prior", help="of --suite=prior: name or folder (default: furniture-unet)")
    p.add_argument("--samples", type=int, help="of --suite=prior: pictures a figure (default: 200)")
    p.add_argument(
        "--out",
        help="JSON file of the scores (default: evaluation.json, or evaluation-SUITE.json)",
    )
    p.add_argument(
        "--gallery", help="PNG or HTML page of all results, below their true objects, or of samples"
    )

    p = _command(commands, "train-prior", _train_prior, "train a text-to-image prior")
    _add_config(p, "prior_small")
    p.add_argument(
        "--data",
        help="sweethome3d-furniture's .deb file, a pack made of it (furniture.packed), or the "
        "folder of a TFDS captioned_furniture build (default: the shipped views)",
    )
    p.add_argument("--init", help="folder of a model to start from, of the same architecture")
    p.add_argument(
        "--workdir",
        default="outputs/prior",
        help="checkpoints and sample sheets (default: outputs/prior)",
    )
    _add_profile(p)

    p = _command(commands, "train-judge", _train_judge, "train the dual encoder that judges")
    _add_config(p, "judge_furniture")
    p.add_argument(
        "--data",
        required=True,
        help="what `python -m dreamfusion_jax.furniture.evaluator_views` wrote, or library: the "
        "shipped pictures, for a model that knows nothing of the judge's",
    )
    p.add_argument("--init", help="folder of a model to start from, of the same architecture")
    p.add_argument(
        "--workdir", default="outputs/judge", help="checkpoints and model (default: outputs/judge)"
    )
    return parser


def _command(commands, name: str, run, summary: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def _add_config(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--config", default=default, help=f"name of a config or a Python file (default: {default})"
    )
    parser.epilog = (
        "Any value of the config can be set with --config.KEY=VALUE, "
        "for example --config.train.steps=500."
    )


def _add_step(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        metavar="N:M",
        help="write a trace of the steps N to M - 1, and of what runs in the same calls, to "
        "WORKDIR/profile",
    )


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    hosts = parser.add_argument_group("several hosts", "Run the same command on every host.")
    hosts.add_argument(
        "--distributed",
        choices=("auto", "on", "off"),
        default="auto",
        help="join the other hosts of a TPU pod, Slurm or Open MPI job, as JAX finds them; auto: "
        "where the environment names several (default)",
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    hosts.add_argument("--processes", type=int, help="how many processes there are")
    hosts.add_argument("--process", type=int, help="which of them this one is, from 0")
    hosts.add_argument(
        "--connect-timeout",
        type=int,
        default=300,
        metavar="SECONDS",
        help="how long to wait for the others (default: 300)",
    )


def _joined(arguments: Sequence[str]) -> list[str]:
    """Arguments with `--config.KEY VALUE` written as `--config.KEY=VALUE`."""
    joined: list[str] = []
    waiting = False
    for argument in arguments:
        if waiting and argument.startswith("--"):
            raise UserError(f"{joined[-1]} has no value; write {joined[-1]}=VALUE.")
        if waiting:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
        waiting = not waiting and argument.startswith("--config.") and "=" not in argument
    if waiting:
        raise UserError(f"{joined[-1]} has no value; write {joined[-1]}=VALUE.")
    return joined


def _config_overrides(rest: Sequence[str]) -> dict[str, str]:
    values = {}
    for argument in rest:
        key, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            raise UserError(
                f"The argument {argument!r} is one too many; a prompt of several words stands in "
                "quotes."
            )
        if not key.startswith("--config.") or not equals:
            raise UserError(
                f"The argument {argument!r} is not known; config values are written "
                "--config.KEY=VALUE (see --help)."
            )
        values[key.removeprefix("--config.")] = value
    return values


# What `generate` and `generate_many` take beside values of the config.
_ARGUMENTS = {
    *("prompt", "prompts", "config", "workdir", "seeds"),
    *("progress", "callback", "view", "profile", "export"),
}

# The heavy imports stand inside the commands, so that --help is instant.


def _generate(options: argparse.Namespace) -> None:
    from dreamfusion_jax import api
    from dreamfusion_jax.prompts.prompt_files import read_prompts
    from dreamfusion_jax.prompts.text import slug

    if (options.prompt is None) == (options.prompts is None):
        raise UserError('Give one prompt, for example "a teddy bear", or --prompts=FILE.')
    many = options.prompts is not None or options.seeds is not None
    if many and (options.view or options.profile):
        raise UserError("--view and --profile are of one scene: give one prompt and one seed.")
    if options.seeds is not None and options.seed is not None:
        raise UserError("Give --seed or --seeds, not both.")
    seeds = None if options.seeds is None else _whole_numbers(options.seeds)
    taken = sorted(options.overrides.keys() & _ARGUMENTS)
    if taken:
        raise UserError(f"--config.{taken[0]} cannot be set; see dreamfusion generate --help.")
    prompts = [options.prompt] if options.prompts is None else read_prompts(options.prompts)
    first = _join_hosts(options)
    given = {"seed": options.seed, "init": options.init}
    overrides = options.overrides | {k: v for k, v in given.items() if v is not None}
    how = {"config": options.config, "workdir": options.workdir, **overrides}
    if many:
        name = slug(options.prompt) if options.prompts is None else Path(options.prompts).stem
        how["workdir"] = options.workdir or Path("outputs") / name
        results = api.generate_many(prompts, seeds=seeds, **how)
    else:
        view = options.port if options.view else None
        results = [api.generate(options.prompt, view=view, profile=options.profile, **how)]
    for result in results if first else ():
        files = [result.video, result.mesh, result.workdir / "report.html"]
        print(f"{result.workdir}: {', '.join(path.name for path in files if path.is_file())}")


def _join_hosts(options: argparse.Namespace) -> bool:
    """Whether this is the host that reports."""
    from dreamfusion_jax.train import parallel

    named = options.coordinator is not None
    half = not named and (options.processes is not None or options.process is not None)
    if half or (named and options.distributed == "off"):
        raise UserError(
            "Several hosts need --coordinator=HOST:PORT, --processes=N and --process=I together, "
            "and not --distributed=off."
        )
    auto = options.distributed == "auto" and (named or parallel.cluster_is_visible())
    if options.distributed == "on" or auto:
        parallel.initialize_distributed(
            options.coordinator,
            options.processes,
            options.process,
            timeout=options.connect_timeout,
        )
        return parallel.is_primary()
    return True


def _render(options: argparse.Namespace) -> None:
    from dreamfusion_jax import api
    from dreamfusion_jax.io import local_path

    light = None
    if options.light is not None:
        light = _numbers(options.light, 2, "--light takes AZIMUTH,ELEVATION in degrees")
    print(
        api.render(
            options.workdir,
            options.out or local_path(options.workdir) / "render.mp4",
            show=[kind for kind in options.show.split(",") if kind],
            path=options.path,
            frames=options.frames,
            size=options.size,
            elevation=options.elevation,
            light=light,
            light_color=_color(options.light_color),
            ambient_color=_color(options.ambient_color),
            transparent=options.transparent,
            frames_per_second=options.fps,
            step=options.step,
        )
    )


def _numbers(text: str, count: int, rule: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(math.isfinite(x) for x in numbers):
        raise UserError(f"{rule}, not {text!r}.")
    return numbers


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds takes whole numbers with commas, not {text!r}.") from error


def _color(text: str) -> tuple[float, ...]:
    from PIL import ImageColor

    try:
        return tuple(x / 255 for x in ImageColor.getrgb(text)[:3])
    except ValueError as error:
        raise UserError(f"{text!r} is no color; write #rrggbb or a name.") from error


def _view(options: argparse.Namespace) -> None:
    from dreamfusion_jax import api

    api.view(options.workdir, options.port, step=options.step)


def _export(options: argparse.Namespace) -> None:
    from dreamfusion_jax import api
    from dreamfusion_jax.io import local_path

    out = options.out or local_path(options.workdir) / "mesh.glb"
    print(
        api.export_mesh(
            options.workdir,
            out,
            resolution=options.resolution,
            triangles=options.triangles,
            texture_size=options.texture,
            millimeters=options.mm,
            threshold=options.threshold,
            centered=options.centered,
            step=options.step,
            progress=True,
        )
    )


def _sample(options: argparse.Namespace) -> None:
    from dreamfusion_jax import api

    print(
        api.sample(
            options.prompt,
            options.out,
            prior=options.prior,
            dtype=options.dtype,
            method=options.method,
            count=options.count,
            size=options.size,
            steps=options.steps,
            sds_steps=options.sds_steps,
            guidance_weight=options.guidance,
            sds_guidance_weight=options.sds_guidance,
            seed=options.seed,
        )
    )


def _evaluate(options: argparse.Namespace) -> None:
    from dreamfusion_jax import api
    from dreamfusion_jax.io import local_path

    suite, gallery = options.suite, options.gallery
    given = _options_of(suite, options)
    default = "evaluation.json" if suite == "furniture" else f"evaluation-{suite}.json"
    out = options.out or default
    for path in (out, gallery):  # before anything is rendered
        local_path(path or "")
    if suite == "clip":
        api.evaluate_clip(options.runs, out=out, gallery=gallery, **given)
    elif suite == "furniture":
        api.evaluate(options.runs, out, gallery=gallery)
    elif suite == "mesh":
        api.evaluate_meshes(options.runs, out)
    elif options.runs:
        instead = " but --prior, the name or folder of one" if suite == "prior" else ""
        raise UserError(f"--suite={suite} takes no runs{instead}.")
    elif suite == "judge":
        api.evaluate_judge(out)
    else:
        api.evaluate_prior(out=out, sample_sheet=gallery, **given)


def _options_of(suite: str, options: argparse.Namespace) -> dict[str, Any]:
    """The options of one suite that were given; those of another are refused."""
    known = {
        "clip": ("clip", "prompts", "azimuths", "elevation"),
        "prior": ("prior", "samples"),
    }
    given = {}
    for owner, names in known.items():
        found = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
        if found and owner != suite:
            raise UserError(f"--{next(iter(found))} belongs to --suite={owner}.")
        given |= found
    if suite in ("mesh", "judge") and options.gallery is not None:
        raise UserError(f"--suite={suite} has no --gallery.")
    return given


def _train_prior(options: argparse.Namespace) -> None:
    from dreamfusion_jax.config import PRIOR_PARTS, load_config, override
    from dreamfusion_jax.furniture.prior_data import load_data
    from dreamfusion_jax.furniture.prior_training import train_prior
    from dreamfusion_jax.io import local_path
    from dreamfusion_jax.train.profile import steps_to_profile

    config = load_config(options.config, PRIOR_PARTS)
    override(config, options.overrides)
    how = {"init": options.init}
    how["profile"] = steps_to_profile(options.profile, config.train.steps)
    data = load_data(config, options.data)
    print(train_prior(config, data, local_path(options.workdir), **how))


def _train_judge(options: argparse.Namespace) -> None:
    from dreamfusion_jax.config import EVALUATOR_PARTS, load_config, override
    from dreamfusion_jax.furniture.evaluator_training import train_evaluator
    from dreamfusion_jax.furniture.evaluator_views import load_evaluator_views, shipped_views
    from dreamfusion_jax.furniture.retrieval_evaluator import (
        RetrievalEvaluator,
        check_evaluator,
        check_object_views,
    )
    from dreamfusion_jax.furniture.shipped import asset_folder
    from dreamfusion_jax.io import local_path

    config = load_config(options.config, EVALUATOR_PARTS)
    override(config, options.overrides)
    asset_folder("ground_truth")  # which the judge is checked with: before it is trained
    views = shipped_views() if options.data == "library" else load_evaluator_views(options.data)
    model = train_evaluator(config, views, local_path(options.workdir), init=options.init)
    print(model)
    judge = RetrievalEvaluator.load(model)
    figures = check_object_views(judge) | (
        check_evaluator(judge, views) if views.held_out.any() else {}
    )
    for name, figure in figures.items():
        print(f"{name:<24} {figure:>8}")


if __name__ == "__main__":
    sys.exit(main())
