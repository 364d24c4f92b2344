"""Compiles the training step for TPUs that are not here, and says what it would cost.

    pip install 'dreamfusion_jax[tpu]'
    python launch/tpu/compile_check.py --config=paper --unet=if-i-xl --topology=v4

RunStore on any x86 Linux machine: the compiler is part of the libtpu package. What is compiled is
the program that `dreamfusion generate` runs, with shapes in place of the arrays. The chips'
time is the compiler's own estimate, which knows nothing of the host and the network.
"""

import argparse
import functools
import importlib.util
import json
import os
import sys
import time

# Set before JAX is imported: only the compiler is wanted, not a TPU.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

import jax
import jax.numpy as jnp
from hlo_costs import collectives, cycles_by_part
from jax.experimental import topologies

from dreamfusion_jax.config import load_config, override
from dreamfusion_jax.diffusion.deepfloyd import (
    TEXT_WIDTH,
    TOKENS,
    WIDTHS,
    unet_shapes,
    untrained_prior,
)
from dreamfusion_jax.diffusion.load import load_prior
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.loop import encode_prompts
from dreamfusion_jax.train.parallel import steps_program
from dreamfusion_jax.train.stage import make_stage, own_cameras
from dreamfusion_jax.train.state import initial_state
from dreamfusion_jax.types import Conditioning

# name: topology, options of its description, memory of a chip in GB, clock in GHz
TOPOLOGIES = {
    "v4": ("v4:2x2x1", {"chip_config_name": "megacore"}, 32, 1.05),
    "v5e": ("v5e:2x2", {}, 16, 1.5),
    "v5e-256": ("v5e:16x16", {}, 16, 1.5),
    "v5p": ("v5p:2x2x1", {}, 95, 1.75),
    "v6e": ("v6e:2x2", {}, 32, 1.75),
}
# Parts of the step, by what stands in the names of the operations.
PARTS = {"UNet": r"/UNet/", "optimizer": r"/optimizer/", "rendering": r"render"}
PAPER_SECONDS = 0.36  # an iteration of the paper on 4 v4 chips


def main() -> int:
    """Print the table of one topology; 2 for bad input."""
    options = _parser().parse_args()
    try:
        figures = check(options)
    except UserError as error:
        print(f"compile_check: {error}", file=sys.stderr)
        return 2
    for key, value in figures.items():
        print(f"{key:<32} {value}")
    print(json.dumps(figures))
    return 0


def check(options: argparse.Namespace) -> dict:
    """Compile one call of the program, and read its costs."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("The TPU compiler is missing: pip install 'dreamfusion_jax[tpu]'.")
    name, how, capacity, clock = TOPOLOGIES[options.topology]
    devices = topologies.get_topology_desc(topology_name=name, platform="tpu", **how).devices
    config = load_config(options.config)
    override(config, {"train.batch_size": options.views * len(devices)})
    override(config, dict(options.set))
    began = time.perf_counter()
    lowered = _lower(config, options, devices)
    compiled = lowered.compile()
    seconds = time.perf_counter() - began

    memory, text = compiled.memory_analysis(), compiled.as_text()
    cost = compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    cycles = cycles_by_part(text, PARTS)
    times = {part: value / options.steps / clock / 1e6 for part, value in cycles.items()}
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    held += memory.generated_code_size_in_bytes
    messages = collectives(text)
    return {
        "topology": f"{name}, {len(devices)} chips of {devices[0].device_kind}",
        "program": f"{options.config}, {options.unet or config.prior.name}, {options.scenes} "
        f"scene(s) of {options.views} view(s) a chip, {options.steps} step(s) a call",
        "compiled in": f"{seconds:.0f} s",
        "arguments, GB": _gb(memory.argument_size_in_bytes),
        "temporaries, GB": _gb(memory.temp_size_in_bytes),
        "code, GB": _gb(memory.generated_code_size_in_bytes),
        "in all, GB": f"{_gb(held)} of {capacity}" + ("" if held < capacity * 1e9 else ": TOO BIG"),
        "Tflop a chip": round(cost.get("flops", 0) / 1e12, 5),
        "bytes accessed a chip, GB": _gb(cost.get("bytes accessed", 0)),
        "messages": ", ".join(f"{m.kind} of {m.bytes / 1e6:.2f} MB" for m in messages) or "none",
        **{f"estimate, ms: {part}": round(value, 2) for part, value in times.items()},
        "estimate, ms a step": round(sum(times.values()), 1),
        "the paper's, ms a step": PAPER_SECONDS * 1e3,
    }


def _lower(config, options: argparse.Namespace, devices):
    """Return the program, lowered for these devices, from shapes alone."""
    if options.unet:
        prior = untrained_prior(options.unet, unet_shapes(options.unet))
    else:
        prompts = [] if config.guidance.omega else ["a teddy bear"]
        prior = load_prior(config.prior.name, image_size=config.train.image_size, prompts=prompts)
    stage = make_stage(config, prior, len(devices))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), options.scenes))
    state = jax.eval_shape(functools.partial(initial_state, stage.scene, stage.optimizer), keys)
    prompts = ["a teddy bear"] * options.scenes
    if options.unet:
        asked = stage.guidance.prompts(stage.view_prompts, prompts[0])
        shapes = {name: (options.scenes, len(rows), TOKENS) for name, rows in asked.items()}
        embeddings = {
            name: Conditioning(
                states=jax.ShapeDtypeStruct((*shape, TEXT_WIDTH), jnp.bfloat16),
                mask=jax.ShapeDtypeStruct(shape, jnp.bool_),
            )
            for name, shape in shapes.items()
        }
    else:
        embeddings = encode_prompts(stage, prior, prompts)
    own = own_cameras(prior, prompts) if stage.own_cameras else None
    frozen = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (prior.params, embeddings, own)
    )
    numbers = jax.ShapeDtypeStruct((len(devices),), jnp.int32)
    return steps_program(stage, options.steps, devices).lower(state, *frozen, keys, numbers)


def _gb(size: float) -> float:
    return round(size / 1e9, 3)


def _count(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _pair(text: str) -> list[str]:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return text.split("=", 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--topology", choices=tuple(TOPOLOGIES), default="v4", help="which chips")
    parser.add_argument("--config", default="paper", help="a config's name or file")
    parser.add_argument(
        "--unet", choices=tuple(WIDTHS), help="size of the UNet (shapes only; none: the config's)"
    )
    parser.add_argument("--scenes", type=_count, default=1, help="scenes optimized together")
    parser.add_argument("--views", type=_count, default=1, help="views of a scene on each chip")
    parser.add_argument("--steps", type=_count, default=1, help="steps in one call")
    parser.add_argument(
        "--set", nargs="*", type=_pair, default=[], help="KEY=VALUE of the config, any number"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
