"""Measures this program on this machine.

python launch/benchmark.py nerf    one NeRF step on one thread: time and memory
python launch/benchmark.py step    whole training steps of a config: views a second
python launch/benchmark.py roots   the optimizer's work on 1, 4 and 64 devices
Each prints a table, and the same as one line of JSON for machines (--json FILE writes it).
"""

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from arguments import count as positive
from arguments import pair

# Dense bf16 peaks of one device, from the makers' data sheets.
PEAK_FLOPS = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark and prints what it found; 2 for bad input."""
    options = _parser().parse_args(arguments)
    if options.threads == 1:
        use_one_thread()
    from dreamfusion_jax.errors import UserError
    from dreamfusion_jax.xla_flags import prefer_fast_convolutions

    prefer_fast_convolutions()
    try:
        figures = options.run(options)
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    for key, value in figures.items():
        print(f"{key:<36} {value}")
    print(json.dumps(figures))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def use_one_thread() -> None:
    """Keep the whole process on one core; must come before jax is imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def nerf(options: argparse.Namespace) -> dict:
    """Render rays of one view, lit and with analytic normals, and takes all gradients.

    The cotangents are those of a squared error of the colors plus the regularizers, so
    that every part of a training step but the prior and the optimizer is in it.
    """
    import jax
    import jax.numpy as jnp

    from dreamfusion_jax.scene.cameras import orbit_camera
    from dreamfusion_jax.scene.fields import MlpField
    from dreamfusion_jax.scene.lights import point_light
    from dreamfusion_jax.scene.nerf import NerfScene, render_rays
    from dreamfusion_jax.scene.ray_samplers import HierarchicalSampler
    from dreamfusion_jax.scene.rays import cast_rays

    scene = NerfScene(
        field=MlpField(
            width=options.width,
            blocks=options.blocks,
            frequencies=options.frequencies,
            points_per_chunk=options.chunk,
        ),
        sampler=HierarchicalSampler(options.coarse, options.fine),
        radius=options.radius,
    )
    params = scene.init(jax.random.key(0))
    camera = orbit_camera(jnp.array(0.5), 0.3, 1.5, 1.1)
    light = point_light(jnp.array([1.0, 0.5, 1.0]))

    def loss(params, key):
        rays = cast_rays(camera, options.size, scene.radius)
        gray = jnp.full(rays.directions.shape, 0.5)
        image = render_rays(scene, params, rays, light, gray, key)
        return jnp.mean(image.rgb**2) + jnp.mean(image.orientation) + jnp.mean(image.opacity)

    step = jax.jit(jax.value_and_grad(loss))
    timing = measure(lambda i: step(params, jax.random.key(i)), options.repeats)
    return timing | {
        "rays": options.size**2,
        "samples a ray": f"{options.coarse} coarse (density) + {options.fine} fine",
        "network": f"width {options.width}, {options.blocks} blocks, L = {options.frequencies}",
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "points in a chunk": options.chunk,
        **surroundings(),
    }


def step(options: argparse.Namespace) -> dict:
    """Run whole training steps of a config: cameras, rendering, prior, optimizer."""
    import jax

    if options.devices:
        jax.config.update("jax_num_cpu_devices", options.devices)
    from dreamfusion_jax.config import load_config, override
    from dreamfusion_jax.diffusion.deepfloyd import random_unet, untrained_prior
    from dreamfusion_jax.diffusion.load import load_prior
    from dreamfusion_jax.furniture.object_views import nouns
    from dreamfusion_jax.train.loop import encode_prompts
    from dreamfusion_jax.train.parallel import compile_steps, device_count, replicate
    from dreamfusion_jax.train.stage import make_stage, own_cameras
    from dreamfusion_jax.train.state import initial_state

    config = load_config(options.config)
    override(config, dict(options.set))
    others = [f"a {noun}" for noun in nouns() if noun not in options.prompt]
    prompts = [options.prompt, *others][: max(options.scenes)]
    if options.unet:
        prior = untrained_prior(options.unet, random_unet(options.unet, jax.random.key(1)))
    else:
        asked = [] if config.guidance.get("omega") else prompts
        prior = load_prior(config.prior.name, image_size=config.train.image_size, prompts=asked)
    stage = make_stage(config, prior, device_count(config.train.batch_size))
    run = compile_steps(stage, options.steps)
    figures, alone = {}, None
    for scenes in options.scenes:
        seed_keys = jax.random.split(jax.random.key(0), scenes)
        text = _RandomTexts() if options.unet else prior
        embeddings = encode_prompts(stage, text, prompts[:scenes])
        own = own_cameras(prior, prompts[:scenes]) if stage.own_cameras else None
        frozen = replicate((prior.params, embeddings, own, seed_keys), stage.devices)
        start = functools.partial(initial_state, stage.scene, stage.optimizer, seed_keys)
        calls = _Calls(run, replicate(start(), stage.devices), frozen)
        timing = measure(calls, options.repeats, units=options.steps)
        rate = scenes * stage.views * stage.devices / timing["wall seconds"]
        alone = alone or rate
        timing["views a second, a device"] = round(rate / stage.devices, 3)
        timing["gain over the first"] = round(rate / alone, 2)
        flops = _model_flops(config, prior, scenes, embeddings, own)
        timing["model Tflop a step, a device"] = round(flops / 1e12, 4)
        peak = PEAK_FLOPS.get(jax.devices()[0].device_kind)
        if peak:
            share = 100 * flops / timing["wall seconds"] / peak
            timing["model flops utilization"] = f"{share:.1f} % of {peak / 1e12:.0f} Tflop/s"
        timing |= _optimizer(config, start(), timing, options.repeats)
        name = f"{scenes} scenes" if scenes > 1 else "1 scene"
        figures |= {f"{name}: {key}": value for key, value in timing.items()}
    return figures | {
        "config": options.config,
        "prior": f"{options.unet}, random weights" if options.unet else config.prior.name,
        "views of a scene in a step": config.train.batch_size,
        "devices": stage.devices,
        "image": f"{config.train.image_size} x {config.train.image_size}",
        "samples a ray": "{coarse_samples} coarse + {fine_samples} fine".format(
            **config.scene.sampler
        ),
        **surroundings(),
    }


def roots(options: argparse.Namespace) -> dict:
    """Compile the optimizer's update of a config for several device counts: what each computes.

    Flops of one device, from the compiled program, a pass of the roots' iterations counted once.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", max(options.devices))
    from dreamfusion_jax.config import load_config
    from dreamfusion_jax.optim.build import build_optimizer
    from dreamfusion_jax.scene.nerf import NerfScene

    config = load_config(options.config)
    scene, axis = NerfScene.from_config(config.scene), "batch"
    params = jax.eval_shape(lambda key: scene.init(key), jax.random.key(0))
    optimizer = build_optimizer(config.optim, config.train.steps, batch_axis_name=axis)
    state = jax.eval_shape(optimizer.init, params)
    figures = {}
    for count in options.devices:
        program = jax.pmap(
            lambda grads, state, device: optimizer.update(grads, state, grads),
            axis,
            in_axes=(None, None, 0),
            out_axes=None,
            devices=jax.devices()[:count],
        )
        numbers = jax.ShapeDtypeStruct((count,), "int32")
        cost = program.lower(params, state, numbers).compile().cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost
        figures[f"{count} devices: Gflop"] = round(cost["flops"] / 1e9, 4)
    return figures | {"config": options.config, **surroundings()}


class _RandomTexts:
    """Stands in for a text encoder."""

    def encode(self, prompts):
        """Return noise of T5-XXL's shape."""
        from dreamfusion_jax.diffusion.deepfloyd import random_texts

        return random_texts(len(prompts))


class _Calls:
    """Calls the program again and again, each time on the state that it returned."""

    def __init__(self, run: Callable, state: object, frozen: tuple):
        self._run, self._state, self._frozen = run, state, frozen

    def __call__(self, i: int) -> object:
        self._state, metrics = self._run(self._state, *self._frozen)
        return metrics


def _model_flops(config, prior, scenes: int, embeddings, own_cameras) -> float:
    """Return the flops of a step on one device, from the program before the compiler touches it.

    Loops whose length depends on data (the roots' iterations) count once.
    """
    import jax

    from dreamfusion_jax.train.parallel import device_count, steps_program
    from dreamfusion_jax.train.stage import make_stage
    from dreamfusion_jax.train.state import initial_state

    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        whole.scene.field.points_per_chunk = 0  # a loop over chunks would count as one chunk
    stage = make_stage(whole, prior, device_count(whole.train.batch_size))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), scenes))
    state = jax.eval_shape(functools.partial(initial_state, stage.scene, stage.optimizer), keys)
    numbers = jax.ShapeDtypeStruct((stage.devices,), "int32")
    program = steps_program(stage, 1, jax.devices()[: stage.devices]).lower(
        state, prior.params, embeddings, own_cameras, keys, numbers
    )
    cost = program.cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def _optimizer(config, state, timing: dict, repeats: int) -> dict:
    """Return what the optimizer's part of a step takes, on one device, and its state's size.

    Its gradients are noise of the parameters' shapes, and it has taken ten steps before.
    """
    import jax

    from dreamfusion_jax.optim.build import build_optimizer
    from dreamfusion_jax.train.state import update_scenes

    optimizer = build_optimizer(config.optim, config.train.steps)
    leaves, tree = jax.tree.flatten(state.params)

    @jax.jit
    def update(state, key):
        keys = jax.random.split(key, len(leaves))
        noise = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
        return update_scenes(optimizer, jax.tree.unflatten(tree, noise), state)

    for i in range(10):
        state = update(state, jax.random.key(i))
    own = measure(lambda i: update(state, jax.random.key(i)), repeats)["CPU seconds"]
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state))
    return {
        "optimizer, CPU seconds": own,
        "optimizer's share": f"{100 * own / timing['CPU seconds']:.1f} %",
        "optimizer's state, MB": round(size / 1e6, 2),
    }


def measure(function: Callable[[int], object], repeats: int, *, units: int = 1) -> dict:
    """Time function(i) on call i: compilation, then the least of `repeats` calls.

    Processor seconds are the ones to compare: other programs on the machine lengthen the
    wall seconds. Both are for one of the `units` that a call consists of.
    """
    import jax

    start = _cpu_seconds()
    jax.block_until_ready(function(0))
    first = _cpu_seconds() - start
    cpu, wall = [], []
    for i in range(1, repeats + 1):
        cpu_start, wall_start = _cpu_seconds(), time.perf_counter()
        jax.block_until_ready(function(i))
        cpu.append(_cpu_seconds() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    return {
        "CPU seconds": round(min(cpu) / units, 4),
        "CPU seconds, median": round(sorted(cpu)[repeats // 2] / units, 4),
        "wall seconds": round(min(wall) / units, 4),
        "first call, CPU seconds": round(first, 2),
        "peak memory, GB": round(_peak_bytes() / 1e9, 3),
    }


def surroundings() -> dict:
    """Return the machine and the versions behind a figure."""
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": jax.devices()[0].device_kind,
        "cores used": cores,
        "processor": _processor(),
        "jax": jax.__version__,
        "dreamfusion_jax": importlib.metadata.version("dreamfusion_jax"),
        "python": platform.python_version(),
    }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    add = functools.partial(
        commands.add_parser, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = functools.partial(dict, type=int)

    command = add("nerf", help="one NeRF step, forward and backward")
    command.set_defaults(run=nerf)
    command.add_argument("--size", **number(default=64, help="image side in pixels"))
    command.add_argument("--coarse", **number(default=48, help="coarse samples a ray"))
    command.add_argument("--fine", **number(default=16, help="fine samples a ray"))
    command.add_argument("--width", **number(default=64, help="hidden units"))
    command.add_argument("--blocks", **number(default=2, help="residual blocks"))
    command.add_argument("--frequencies", **number(default=8, help="octaves of the encoding"))
    command.add_argument("--chunk", **number(default=1024, help="points in a chunk, 0: all"))
    command.add_argument("--radius", type=float, default=0.75, help="bounding sphere")
    command.add_argument("--threads", **number(default=1, help="1, or 0 for all cores"))
    command.add_argument("--repeats", type=positive, default=10, help="timed calls")
    command.add_argument("--json", help="file for the figures")

    command = add("roots", help="the optimizer's flops on several devices")
    command.set_defaults(run=roots, threads=0)
    command.add_argument("--config", default="paper", help="a config's name or file")
    command.add_argument("--devices", type=int, nargs="+", default=[1, 4, 64], help="how many")
    command.add_argument("--json", help="file for the figures")

    command = add("step", help="whole training steps")
    command.set_defaults(run=step)
    command.add_argument("--config", default="quick", help="a config's name or file")
    command.add_argument(
        "--set", nargs="*", type=pair, default=[], help="KEY=VALUE of the config, any number"
    )
    command.add_argument("--prompt", default="a teddy bear", help="what to make")
    command.add_argument(
        "--scenes", type=int, nargs="+", default=[1], help="how many together, any number of times"
    )
    command.add_argument(
        "--unet", choices=("if-i-m", "if-i-l", "if-i-xl"), help="a UNet of random weights as prior"
    )
    command.add_argument("--devices", **number(default=0, help="CPU devices, 0: jax's choice"))
    command.add_argument("--steps", **number(default=10, help="steps in one compiled call"))
    command.add_argument("--threads", **number(default=0, help="1, or 0 for all cores"))
    command.add_argument("--repeats", type=positive, default=3, help="timed calls")
    command.add_argument("--json", help="file for the figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
