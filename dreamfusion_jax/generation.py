"""Prompts to 3D objects: what `generate` and `generate_many` do."""

import dataclasses
import functools
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import PIL.Image

from dreamfusion_jax.config import RUN_PARTS, check_seed, load_config, override
from dreamfusion_jax.diffusion.load import (
    find_prior,
    is_large,
    warn_unknown_words,
)
from dreamfusion_jax.diffusion.prior import FrozenModel
from dreamfusion_jax.errors import NoSurface, UserError
from dreamfusion_jax.export.images import save_png
from dreamfusion_jax.export.index import write_index
from dreamfusion_jax.export.preview import preview_grid
from dreamfusion_jax.export.view_settings import check_export, view_settings
from dreamfusion_jax.guidance.image_text_prior import (
    ImageTextPrior,
    is_dual_encoder,
    load_image_text,
)
from dreamfusion_jax.io import local_path
from dreamfusion_jax.prompts.known_nouns import Reading, read_prompt
from dreamfusion_jax.prompts.text import check_prompt, check_prompts, slug
from dreamfusion_jax.prompts.view_prompts import ViewPrompts
from dreamfusion_jax.results import Result, export_all, open_viewer, read_result
from dreamfusion_jax.scene.base import Scene, build_scene
from dreamfusion_jax.startup import prepare_jax
from dreamfusion_jax.train.checkpoint import read_config, run_to_start_from
from dreamfusion_jax.train.loop import Callbacks, train
from dreamfusion_jax.train.parallel import (
    check_devices,
    check_hosts_agree,
    device_count,
    is_primary,
    multi_host,
    on_every_host,
    on_primary,
    shutdown_distributed,
    use_cpu_cores,
)
from dreamfusion_jax.train.profile import profiling, steps_to_profile
from dreamfusion_jax.train.run_store import Job, plan
from dreamfusion_jax.train.stage import build_guidance, make_stages
from dreamfusion_jax.train.workdir import create_or_check_folder, create_or_check_workdir
from dreamfusion_jax.viewer.live_viewer import LiveViewer


def generate(
    prompt: str,
    config: str | ml_collections.ConfigDict = "quick",
    workdir: str | Path | None = None,
    *,
    progress: bool = True,
    prior: str | FrozenModel | None = None,
    callback: Callable[[int, dict[str, float]], None] | None = None,
    viewer_port: int | None = None,
    profile: str | None = None,
    **overrides: Any,
) -> Result:
    """Turn a prompt into a 3D object, or goes on with a run that was interrupted.

    Args:
      prompt: what the object is, in English.
      config: the name of a shipped config, the path of a Python file with get_config(),
        or a ConfigDict.
      workdir: where results go; `outputs/<slug of the prompt>` by default.
      progress: whether to show a progress bar.
      prior: the frozen model, or its name; by default config.prior.name. Of a model the config
        keeps the name of its class.
      callback: called as callback(step, metrics) every config.train.steps_per_call steps, on the
        first of several hosts, all of which must give one or none.
      viewer_port: of a page on this machine that shows the scene while it forms (extra `[view]`).
      profile: N:M, the steps from N to M - 1: a trace of the calls that contain them is written to
        workdir/profile, by the first of several hosts and of its own devices.
      **overrides: config values by dotted key, `**{"train.steps": 500}`; in a keyword
        two underscores stand for the dot: train__steps=500.

    Returns:
      The paths of turntable.mp4, mesh.glb and previews, and the metrics.

    Raises:
      UserError: bad input, with one sentence that says what to do.
    """
    check_prompt(prompt)
    config = on_every_host(lambda: _resolve(config, overrides, prior))
    workdir = Path("outputs") / slug(prompt) if workdir is None else local_path(workdir)
    steps = steps_to_profile(profile, config.train.steps)
    jobs = [Job(prompt, config.seed, workdir)]
    page = None
    if viewer_port is not None:
        page = on_primary(lambda: _open_page(config, prompt, viewer_port))

    def after_call(job, step, metrics, scene, params):
        if callback is not None:
            callback(step, metrics)
        if page is not None:
            page.show(params, step, metrics, scene=scene)

    # All hosts must agree on whether there is something to call.
    watched = None if callback is None and viewer_port is None else after_call
    # Several hosts cannot wait for one.
    paused = (lambda: page.paused) if page is not None and not multi_host() else None
    try:
        with profiling(steps if is_primary() else None, workdir) as around:
            hooks = Callbacks(after_call=watched, around_call=around, paused=paused)
            return _optimize(config, jobs, progress, prior=prior, hooks=hooks)[0]
    finally:
        if page is not None:
            page.close()


def generate_many(
    prompts: Sequence[str],
    config: str | ml_collections.ConfigDict = "quick",
    workdir: str | Path = "outputs/many",
    *,
    seeds: Sequence[int] | None = None,
    progress: bool = True,
    prior: str | FrozenModel | None = None,
    export: bool = True,
    **overrides: Any,
) -> list[Result]:
    """Turn many prompts into 3D objects, config.train.scenes_per_batch at a time in one program.

    Each object is what `generate` makes of its prompt, but for rounding. What is finished
    is skipped when the call is repeated. The folder's index.html shows how far all are.

    Args:
      prompts: what the objects are; see `prompts.prompt_files.read_prompts` for files.
      config: see `generate`, as for the arguments that are not named here.
      workdir: the folder in which every prompt gets a folder, named by its slug.
      seeds: how often each prompt is made, in folders <slug>-seed-<seed>; None is once, with
        config.seed.
      export: whether to write turntables, meshes and reports.

    Returns:
      One result for each prompt and seed; a scene without a surface has no mesh.
    """
    check_prompts(prompts)
    if seeds is not None and (not seeds or len(set(seeds)) < len(seeds)):
        raise UserError(f"The seeds {list(seeds)} must be different numbers, at least one.")
    config = on_every_host(lambda: _resolve(config, overrides, prior))
    workdir = local_path(workdir)
    if seeds is None:
        jobs = [Job(prompt, config.seed, workdir / slug(prompt)) for prompt in prompts]
    else:
        jobs = [
            Job(prompt, seed, workdir / f"{slug(prompt)}-seed-{seed}")
            for seed in seeds
            for prompt in prompts
        ]
    claim = functools.partial(create_or_check_folder, workdir, prompts)
    look = functools.partial(_write_index, workdir)
    return _optimize(config, jobs, progress, prior=prior, claim=claim, export=export, look=look)


def _write_index(folder: Path) -> None:
    """On the first host; a page that cannot be written does not end the runs."""
    try:
        if is_primary():
            write_index(folder)
    except UserError as error:
        print(error, file=sys.stderr)


def _open_page(config: ml_collections.ConfigDict, prompt: str, port: int) -> LiveViewer:
    scene = build_scene(config.scene)
    page = open_viewer(scene, config, prompt, port, training=not multi_host())
    print(f"Watch at {page.url}; later: dreamfusion view WORKDIR.", file=sys.stderr)
    return page


def _resolve(
    config: str | ml_collections.ConfigDict,
    overrides: dict[str, Any],
    prior: str | FrozenModel | None,
) -> ml_collections.ConfigDict:
    """Return the config with its overrides; also prepares the devices, before JAX starts them."""
    if isinstance(config, str):
        config = load_config(config, RUN_PARTS)
    else:
        config = config.copy_and_resolve_references()
    override(config, {key.replace("__", "."): value for key, value in overrides.items()})
    if prior is not None:
        name = prior if isinstance(prior, str) else type(prior).__name__
        override(config, {"prior.name": name})
    prepare_jax()
    check_export(config.export, config.eval_camera)
    # A device for each core would have a copy of the prior's parameters for each core.
    if isinstance(prior, FrozenModel):
        large = prior.large
    elif _by_image_text(config):
        large = not is_dual_encoder(config.prior.name)
    else:
        large = is_large(config.prior.name)
    use_cpu_cores(1 if large else config.train.batch_size)
    check_devices()
    return config


def _optimize(
    config: ml_collections.ConfigDict,
    jobs: Sequence[Job],
    progress: bool,
    *,
    prior: str | FrozenModel | None = None,
    claim: Callable[[], None] = lambda: None,
    export: bool = True,
    hooks: Callbacks | None = None,
    look: Callable[[], None] | None = None,
) -> list[Result]:
    check_hosts_agree(functools.partial(_facts, config, jobs))
    for job in jobs:
        check_seed(job.seed)
    if config.get("init"):  # before the folders are taken
        on_primary(lambda: run_to_start_from(config.init, build_scene(config.scene)))
    on_primary(claim)
    model = prior if isinstance(prior, FrozenModel) else on_every_host(lambda: _load(config))
    jobs = on_every_host(lambda: _read_prompts(config, model, jobs))
    prompts = [job.prior_prompt for job in jobs]
    devices = device_count(config.train.batch_size)
    prior_at = _sizes_of(model, _asked(config, prompts))
    stages = make_stages(config, prior_at, devices)
    _say_views(config.train.batch_size, stages[0].views, devices)
    if is_primary() and not config.prior.replace_unknown_nouns:
        for prompt in dict.fromkeys(prompts):
            warn_unknown_words(prior_at(config.train.image_size), prompt, config.prior.name)

    def claim_all() -> None:
        for job in jobs:
            _claim(job, config)

    on_primary(claim_all)
    preview = functools.partial(_save_preview, view_settings(config.eval_camera))
    if look:
        look()
    callbacks = dataclasses.replace(hooks or Callbacks(), preview=preview)
    for group in plan(jobs, config.train.scenes_per_batch, config.train.steps):
        train(config, stages, prior_at, group, callbacks=callbacks, progress=progress)
        if export and len(group) < len(jobs) and is_primary():
            _export_new(group, progress)
        if look:
            look()
    shutdown_distributed()
    if not export or not is_primary():
        return [read_result(job.workdir) for job in jobs]
    if look:
        _export_new(jobs, progress)
        look()
    else:
        export_all(jobs[0].workdir, progress=progress)
    return [read_result(job.workdir) for job in jobs]


def _say_views(asked: int, each: int, devices: int) -> None:
    if is_primary() and each * devices != asked:
        print(
            f"train.batch_size is {asked}, which {devices} devices cannot share evenly: "
            f"each step has {each * devices}, {each} on each.",
            file=sys.stderr,
        )


def _load(config: ml_collections.ConfigDict) -> FrozenModel:
    """Return the frozen model that guides, as far as it is read before its views' size is known."""
    keys = {k: v for k, v in config.prior.items() if k not in ("name", "replace_unknown_nouns")}
    if _by_image_text(config):
        model = load_image_text(config.prior.name, config.prior.dtype)
        size = config.train.image_size
        return ImageTextPrior(model, (size, size, 3))
    return find_prior(config.prior.name, encodes=is_primary(), **keys)


def _sizes_of(model: FrozenModel, prompts: Sequence[str]) -> Callable[[int], FrozenModel]:
    """Give the model for views of a size; what is large is read once."""

    @functools.cache
    def at(size: int) -> FrozenModel:
        return on_every_host(lambda: model.at(size, prompts))

    return lambda size: at(model.native_size or size)


def _by_image_text(config: ml_collections.ConfigDict) -> bool:
    """Return whether an image-text model guides, in the place of a diffusion prior."""
    return build_guidance(config).model == "image_text"


def _asked(config: ml_collections.ConfigDict, prompts: Sequence[str]) -> Sequence[str]:
    """Return all that a prior is asked for with these prompts; () where that is anything."""
    words = ViewPrompts("none")
    guidance = build_guidance(config)
    rows = [rows for p in prompts for rows in guidance.prompts(words, p).values()]
    texts = dict.fromkeys(text for group in rows for text in group)
    return () if "" in texts else tuple(texts)


def _read_prompts(
    config: ml_collections.ConfigDict, model: FrozenModel, jobs: Sequence[Job]
) -> list[Job]:
    """Return the jobs with prompts in words that the prior knows; say what is replaced or left out.

    Raises:
      UserError: a prompt names nothing that the prior knows.
    """
    nouns = model.known_nouns if config.prior.replace_unknown_nouns else ()
    colors = model.reads_colors(_asked(config, [job.prompt for job in jobs]))
    prior_prompt = {}
    for prompt in dict.fromkeys(job.prompt for job in jobs):
        reading = read_prompt(prompt, nouns, colors=colors)
        prior_prompt[prompt] = reading.prior_prompt
        if is_primary():
            _say_reading(reading, config.prior.name)
    return [dataclasses.replace(job, prior_prompt=prior_prompt[job.prompt]) for job in jobs]


def _say_reading(reading: Reading, prior: str) -> None:
    if reading.replaced:
        print(
            f"The prior {prior!r} does not know {reading.replaced.word!r}: it is read as "
            f"{reading.replaced.name!r}. Switch this off with "
            "--config.prior.replace_unknown_nouns=False.",
            file=sys.stderr,
        )
    if reading.left_out:
        print(
            f"The prior {prior!r} makes {reading.prior_prompt} and ignores: "
            f"{', '.join(reading.left_out)}. A larger prior can be chosen with "
            "--config.prior.name=FOLDER (see the README).",
            file=sys.stderr,
        )


def _claim(job: Job, config: ml_collections.ConfigDict) -> None:
    """Claim a job's folder; a report with other export settings than now is to be made anew."""
    known = (job.workdir / "config.json").is_file()
    before = read_config(job.workdir).get("export") if known else None
    create_or_check_workdir(job.workdir, _config_of(config, job))
    if known and before != read_config(job.workdir).export:
        (job.workdir / "report.html").unlink(missing_ok=True)


def _export_new(jobs: Sequence[Job], progress: bool) -> None:
    """Export what has no report yet; a scene without a surface does not stop the others."""
    for job in jobs:
        if not (job.workdir / "report.html").is_file():
            try:
                export_all(job.workdir, progress=progress)
            except NoSurface as error:
                print(f"{job.prompt}: {error}", file=sys.stderr)


def _facts(config: ml_collections.ConfigDict, jobs: Sequence[Job]) -> dict[str, str]:
    """Return what all hosts must have in common."""
    return {
        "config": config.to_json_best_effort(sort_keys=True),
        "prompts": repr([(job.prompt, job.seed) for job in jobs]),
        "version of dreamfusion_jax": importlib.metadata.version("dreamfusion_jax"),
        "version of jax": jax.__version__,
    }


def _config_of(config: ml_collections.ConfigDict, job: Job) -> ml_collections.ConfigDict:
    own = config.copy_and_resolve_references()
    with own.unlocked():
        own.prompt.text, own.seed = job.prompt, job.seed
    return own


def _save_preview(view: dict, job: Job, step: int, scene: Scene, params: Any) -> PIL.Image.Image:
    folder = job.workdir / "previews"
    folder.mkdir(exist_ok=True)
    image = preview_grid(scene, params, step=step, **view)
    save_png(image, folder / f"{step:06d}.png")
    return image
