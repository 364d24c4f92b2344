import contextlib
import dataclasses
import functools
import gc
import logging
import re
import signal
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.diffusion.empirical import EmpiricalPrior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.fields import GridField, MlpField
from dreamfusion_jax.scene.mesh.scene import MeshScene
from dreamfusion_jax.scene.nerf import NerfScene
from dreamfusion_jax.train.checkpoint import (
    FOLDER,
    restore_run,
    scene_to_start_from,
    write_config,
)
from dreamfusion_jax.train.loop import Callbacks, train
from dreamfusion_jax.train.metrics import read_metrics
from dreamfusion_jax.train.run_store import Job
from dreamfusion_jax.train.stage import make_stages, scene_of


def equal_bits(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "other"),
    [("mlp", {"scene__field__width": 24}), ("grid", {"scene__field__cells": 16})],
)
def test_interrupted_run_equals_an_unbroken_one(
    tiny_config, ball_prior, train_one, tmp_path, field, other
):
    config = tiny_config(field)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = train_one(config, ball_prior, tmp_path / "a")
    assert int(whole.step) == 8

    def interrupt(job, step, scene, params):
        assert isinstance(scene, NerfScene)
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_one(config, ball_prior, tmp_path / "b", callbacks=Callbacks(interrupt))
    resumed = train_one(config, ball_prior, tmp_path / "b")
    assert equal_bits(whole, resumed)
    rows_a, rows_b = read_metrics(tmp_path / "a"), read_metrics(tmp_path / "b")
    assert [r["step"] for r in rows_b] == [2, 4, 6, 8]
    assert [r["sds_residual"] for r in rows_a] == [r["sds_residual"] for r in rows_b]

    write_config(tmp_path / "b", config)
    run = restore_run(tmp_path / "b")
    assert run.step == 8 and run.config.prompt.text == "a ball"
    assert equal_bits(run.params["field"], whole.params["field"])

    # A checkpoint of another config, and a damaged one, are told apart from a good one.
    with pytest.raises(UserError, match="another config"):
        train_one(tiny_config(field, **other), ball_prior, tmp_path / "b")
    for file in (tmp_path / "b" / FOLDER / "8" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(UserError, match="cannot be read"):
        restore_run(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("field", ["mlp", "grid"])
def test_a_run_starts_from_the_scene_of_another(
    tiny_config, ball_prior, train_one, tmp_path, field
):
    first = tiny_config(field)
    before = train_one(first, ball_prior, tmp_path / "first")
    write_config(tmp_path / "first", first)
    still = {"optim__learning_rate": 1e-12, "optim__tables__learning_rate": 1e-12}
    still |= {"optim__final_learning_rate": 0.0, "optim__tables__final_learning_rate": 0.0}
    config = tiny_config(field, init=str(tmp_path / "first"), seed=7, train__steps=4, **still)
    after = train_one(config, ball_prior, tmp_path / "second")
    assert int(after.step) == 4
    pairs = zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-8)
    with pytest.raises(UserError, match="another kind or size"):
        scene_to_start_from(tmp_path / "first", NerfScene())


@pytest.mark.slow
def test_a_second_run_keeps_no_prior_and_compiles_nothing(
    tiny_config, sized_ball_prior, train_one, tmp_path
):
    alive = []
    for i in range(2):
        prior = sized_ball_prior(8)
        alive.append(weakref.ref(prior))
        with jax.log_compiles(i == 1), _compiled() as names:
            train_one(tiny_config(seed=i), prior, tmp_path / str(i))
        del prior
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    assert "many_steps" not in names


@contextlib.contextmanager
def _compiled():
    """Yields the names of what JAX says that it compiles, where it is asked to say so."""
    names = set()
    handler = logging.Handler()
    handler.emit = lambda record: names.update(re.findall(r"Compiling (\S+)", record.getMessage()))
    logging.getLogger("jax").addHandler(handler)
    try:
        yield names
    finally:
        logging.getLogger("jax").removeHandler(handler)


@pytest.mark.slow
def test_what_is_due_is_drawn_before_a_stop(tiny_config, ball_prior, train_one, tmp_path):
    drawn = []

    def stop(job, step, metrics, scene, params):
        if step == 4:
            signal.raise_signal(signal.SIGINT)

    callbacks = Callbacks(lambda job, step, scene, params: drawn.append(step), stop)
    with pytest.raises(KeyboardInterrupt):
        train_one(tiny_config(), ball_prior, tmp_path, callbacks=callbacks)
    assert drawn == [4]


class Halved(EmpiricalPrior):
    """Latents are the means of 2 x 2 pixels."""

    latent_shape = (8, 8, 3)

    def to_latents(self, params, image):
        views, height, width, channels = image.shape
        return image.reshape(views, height // 2, 2, width // 2, 2, channels).mean((2, 4))


@pytest.mark.slow
def test_latents_weigh_as_much_as_pixels(tiny_config, ball_prior, train_one, tmp_path):
    """The regularizers' weights mean the same whether the prior sees pixels or latents."""
    halved = Halved(ball_prior.params, ball_prior.captions, (16, 16, 3))
    norms = []
    for prior, name in ((ball_prior, "pixels"), (halved, "latents")):
        train_one(tiny_config(train__image_size=16, train__steps=2), prior, tmp_path / name)
        norms.append(read_metrics(tmp_path / name)[0]["gradient_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=0.3)  # resizing is not quite the mean of four


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("camera__azimuth_range", (315.0, 45.0), "azimuth_range is .315.0, 45.0.; the first"),
        ("light__distance_range", (1.0, 0.5), "light.distance_range"),
        ("light__lit_probability", 1.5, "lit_probability is 1.5; it must lie within"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(tiny_config, ball_prior, key, value, message):
    with pytest.raises(UserError, match=message):
        make_stages(tiny_config(**{key: value}), lambda size: ball_prior, 1)


@pytest.mark.slow
def test_callbacks_see_every_call_and_can_pause(tiny_config, ball_prior, train_one, tmp_path):
    seen, waits = [], []

    def after_call(job, step, metrics, scene, params):
        assert job.prompt == "a ball" and np.isfinite(list(metrics.values())).all()
        seen.append((step, jax.tree.map(np.copy, params)))

    def paused():
        waits.append(len(seen))
        return waits.count(2) < 3  # two looks at a pause after the second call

    state = train_one(
        tiny_config(),
        ball_prior,
        tmp_path / "a",
        callbacks=Callbacks(after_call=after_call, paused=lambda: len(seen) == 2 and paused()),
    )
    assert [step for step, _ in seen] == [2, 4, 6, 8] and waits == [2, 2, 2]
    assert equal_bits(seen[-1][1]["field"], state.params["field"])
    assert not equal_bits(seen[0][1]["field"], seen[1][1]["field"])


@pytest.mark.slow
def test_renders_are_resized_to_the_size_of_the_prior(tiny_config, ball_prior, train_one, tmp_path):
    assert ball_prior.image_shape == (8, 8, 3)
    rows = []
    for size, name in ((8, "same"), (16, "larger")):
        train_one(tiny_config(train__image_size=size), ball_prior, tmp_path / name)
        rows.append(read_metrics(tmp_path / name))
    same, larger = ([row["sds_residual"] for row in found] for found in rows)
    assert same != larger and same == pytest.approx(larger, rel=0.2)  # the same views, but finer


@pytest.mark.slow
def test_last_steps_at_a_larger_size(tiny_config, sized_ball_prior, train_one, tmp_path):
    sizes = []

    @functools.cache
    def prior_at(size):
        sizes.append(size)
        return sized_ball_prior(size)

    fine = tiny_config(stages={"fine": {"begin": 0.5, "train": {"image_size": 16}}})
    whole = train_one(fine, prior_at, tmp_path / "a")
    assert sizes == [8, 16] and int(whole.step) == 8

    def interrupt(job, step, metrics, scene, params):
        if step == 6:
            raise KeyboardInterrupt

    # Step 4, the last checkpoint, is where the larger views begin.
    with pytest.raises(KeyboardInterrupt):
        train_one(fine, prior_at, tmp_path / "b", callbacks=Callbacks(None, interrupt))
    assert equal_bits(train_one(fine, prior_at, tmp_path / "b"), whole)

    coarse = train_one(tiny_config(), prior_at, tmp_path / "c")
    rows = [[r["sds_residual"] for r in read_metrics(tmp_path / name)] for name in "ac"]
    assert rows[0][:2] == rows[1][:2] and not set(rows[0][2:]) & set(rows[1][2:])
    assert not equal_bits(coarse.params, whole.params)


@pytest.mark.slow
def test_stages_of_different_scenes(tiny_config, ball_prior, train_one, tmp_path):
    """An MLP, then a grid that was fitted to it; interrupted in both, the run is the same."""
    grid = {"name": "grid", "cells": 16, "levels": 2}
    fit = {"name": "fit", "steps": 200, "points": 1024}
    later = {"begin": 0.5, "scene": {"field": grid}, "convert": fit}
    config = tiny_config(train__steps=12, train__checkpoint_every=2, stages={"later": later})
    stages = make_stages(config, lambda size: ball_prior, 1)
    coarse, fine = (stage.scene for stage in stages)
    assert isinstance(coarse.field, MlpField) and isinstance(fine.field, GridField)
    seen = {}

    def keep(job, step, metrics, scene, params):
        seen[step] = scene, params

    whole = train_one(config, ball_prior, tmp_path / "whole", callbacks=Callbacks(None, keep))
    assert [seen[step][0] for step in (6, 8)] == [coarse, fine]
    points = jax.random.uniform(jax.random.key(1), (500, 3), minval=-0.3, maxval=0.3)
    wanted = jnp.log1p(coarse.at_points(seen[6][1], points, 6).density)
    fitted = stages[1].convert(coarse, seen[6][1], fine, 6, jax.random.key(0))
    near, far = (
        float(jnp.mean(jnp.abs(jnp.log1p(fine.at_points(params, points, 6).density) - wanted)))
        for params in (fitted, fine.init(jax.random.key(0)))
    )
    assert near < 0.3 * far, (near, far)

    for last in (4, 8):

        def interrupt(job, step, metrics, scene, params, last=last):
            if step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            folder = tmp_path / "broken"
            train_one(config, ball_prior, folder, callbacks=Callbacks(None, interrupt))
    assert equal_bits(train_one(config, ball_prior, tmp_path / "broken"), whole)
    write_config(tmp_path / "whole", config)
    assert restore_run(tmp_path / "whole").scene == fine and scene_of(config, 6) == coarse


@pytest.mark.slow
def test_a_stage_that_goes_on_with_the_surface(tiny_config, ball_prior, tmp_path):
    """Two scenes, whose surfaces have lengths of their own; interrupted, the run is the same."""
    later = {
        "begin": 0.5,
        "convert": {"name": "surface"},
        "scene": {"name": "mesh", "cells": 12},
        "regularizers": {"normal_consistency": {"start": 1e-2, "end": 1e-2}},
    }
    settings = {"scene__field__cells": 16, "train__steps": 60, "train__steps_per_call": 10}
    settings |= {"train__checkpoint_every": 10, "train__preview_every": 10}
    config = tiny_config("grid", stages={"later": later}, **settings)
    stages = make_stages(config, lambda size: ball_prior, 1)
    assert isinstance(stages[1].scene, MeshScene)

    def run(folder, **how):
        jobs = [Job(noun, 0, tmp_path / folder / noun) for noun in ("a ball", "a cube")]
        return train(config, stages, lambda size: ball_prior, jobs, progress=False, **how)

    whole = run("whole")
    for last in (20, 40):

        def interrupt(job, step, metrics, scene, params, last=last):
            if step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run("broken", callbacks=Callbacks(None, interrupt))
    assert equal_bits(run("broken"), whole)
    rows = read_metrics(tmp_path / "whole" / "a ball")
    assert ["loss/normal_consistency" in row for row in rows] == [False] * 3 + [True] * 3
    assert all(0.01 < row["opacity"] < 0.9 for row in rows)
    assert 0 < rows[-1]["gradient_norm"] < 10
    write_config(tmp_path / "whole" / "a ball", config)
    run = restore_run(tmp_path / "whole" / "a ball")
    assert run.scene == stages[1].scene
    # Another run may start from it: with a field, fitted to the surface.
    field = stages[0].scene
    start = scene_to_start_from(tmp_path / "whole" / "a ball", field)
    points = jax.random.uniform(jax.random.key(1), (500, 3), minval=-0.3, maxval=0.3)

    def dense(scene, params):
        return jnp.log1p(jax.jit(scene.at_points)(params, points).density)

    wanted = dense(run.scene, run.params)
    near, far = (
        float(jnp.mean(jnp.abs(dense(field, params) - wanted)))
        for params in (start, field.init(jax.random.key(0)))
    )
    assert near < 0.4 * far, (near, far)
    with pytest.raises(UserError, match="another kind or size"):
        scene_to_start_from(tmp_path / "whole" / "a ball", MeshScene(cells=8))


@pytest.mark.parametrize(
    ("steps", "call", "start", "expected"),
    [
        (1200, 25, 0.83, [(8, 1000), (16, 1200)]),
        (45, 25, 0.9, [(8, 45)]),  # less than half a call is left
        (40, 10, 0.0, [(16, 40)]),
        (40, 10, 1.0, [(8, 40)]),
    ],
)
def test_sizes_end_with_the_run(tiny_config, sized_ball_prior, steps, call, start, expected):
    settings = {"train__steps": steps, "train__steps_per_call": call}
    settings |= {"train__checkpoint_every": call, "train__preview_every": call}
    fine = {"begin": start, "train": {"image_size": 16}}
    config = tiny_config(**settings, stages={"fine": fine})
    stages = make_stages(config, sized_ball_prior, 1)
    assert [(stage.image_size, stage.until) for stage in stages] == expected
    assert [stage.prior.image_shape[0] for stage in stages] == [size for size, _ in expected]


@pytest.mark.slow
def test_non_finite_loss_stops_with_the_step_named(tiny_config, ball_prior, train_one, tmp_path):
    params = ball_prior.params | {"foreground": ball_prior.params["foreground"] * np.nan}
    broken = dataclasses.replace(ball_prior, params=params)
    with pytest.raises(UserError, match=r"not finite at step 1\b.*no checkpoint yet"):
        train_one(tiny_config(), broken, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__checkpoint_every": 3}, "multiple of train.steps_per_call"),
        ({"train__steps": 0}, "train.steps is 0"),
        ({"train__steps_per_call": 0}, "steps_per_call is 0"),
        (
            {
                "scene__background__name": "environment",
                "scene__background__frequencies": 0,
            },
            "frequencies is 0",
        ),
        ({"guidance__name": "vsd"}, "'vsd'; choose one of clip, sds"),
        ({"guidance__t_min": 0.99}, "must lie below"),
        ({"optim__name": "sgdx"}, "sgdx"),
        ({"stages": {"fine": {"train": {"image_size": 16}}}}, "stages.fine.begin is None; give"),
        ({"stages": {"fine": {"begin": 1.5}}}, r"begin is 1.5; .* within \[0, 1\]"),
        ({"stages": {"fine": {"begin": 0.5, "seed": 3}}}, "stages.fine.seed cannot be set"),
        ({"stages": {"a": {"begin": 0.5, "train": {"steps": 3}}}}, "train.steps cannot be set"),
        ({"stages": {"a": {"begin": 0.5, "scene": {"x": 3}}}}, "stages.a: There is no config key"),
        ({"stages": {"a": {"begin": 0.5, "scene": {"field": {"width": 24}}}}}, "NAME.convert"),
        ({"regularizers__transmittance__target_start": 1.0}, r"within \[0, 1\)"),
        ({"train__batch_size": 0}, "train.batch_size is 0"),
    ],
)
def test_senseless_values_are_refused(
    tiny_config, ball_prior, train_one, tmp_path, changes, message
):
    with pytest.raises(UserError, match=message):
        train_one(tiny_config(**changes), ball_prior, tmp_path)
    assert not any(tmp_path.iterdir())


_CALLS = """
import contextlib, resource, sys
from pathlib import Path
import dreamfusion_jax
from dreamfusion_jax.errors import UserError
small = {"train.steps": 4, "train.steps_per_call": 2, "train.batch_size": 1, "train.image_size": 16}
small |= {"train.checkpoint_every": 4, "train.preview_every": 4}
small |= {"export.turntable_frames": 2, "export.turntable_size": 16}
for noun in sys.argv[2:]:
    with contextlib.suppress(UserError):  # so short a run may have no surface
        dreamfusion_jax.generate(
            f"a {noun}", workdir=Path(sys.argv[1]) / noun, progress=False, **small
        )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_the_runs_of_a_process_need_the_memory_of_one(tmp_path):
    """No run leaves its prior, programs or pictures behind (1.13 to 1.16 measured for ten)."""
    nouns = "table teapot chair laptop sofa".split()
    command = [sys.executable, "-W", "ignore", "-c", _CALLS, str(tmp_path), *nouns]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    peaks = list(map(int, done.stdout.split()))
    assert len(peaks) == 5
    assert peaks[-1] < 1.25 * peaks[0], peaks
