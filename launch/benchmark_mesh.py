"""Measures the rasterizer and a mesh scene on this machine.

python launch/benchmark_mesh.py                    one view of 10,000 triangles at 128 pixels
python launch/benchmark_mesh.py --triangles=100000 --size=512
Prints milliseconds (medians) and the memory of the process, as a table and as one line of JSON.
"""

import argparse
import dataclasses
import json
import math
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from arguments import count


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print what it found."""
    options = _parser().parse_args(arguments)
    figures = measure(options.triangles, options.size, options.views, options.repeats)
    for key, value in figures.items():
        print(f"{key:<36} {value}")
    print(json.dumps(figures))
    return 0


def measure(triangles: int, size: int, views: int, repeats: int) -> dict[str, Any]:
    """Return milliseconds of drawing a bumpy ball, and of that with the gradient of its vertices.

    Drawing is rasterizing, interpolating places, and blending outlines.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import trimesh

    from dreamfusion_jax.scene.cameras import orbit_camera
    from dreamfusion_jax.scene.mesh.antialiasing import antialias
    from dreamfusion_jax.scene.mesh.rasterizer import interpolate, rasterize
    from dreamfusion_jax.scene.mesh.topology import surface_mesh

    rings = math.ceil(math.sqrt(triangles) / 2) + 1
    ball = trimesh.creation.uv_sphere(0.5, [rings, rings])
    places = np.array(ball.vertices)
    places *= 1 + 0.1 * np.sin(9 * places[:, :1]) * np.cos(7 * places[:, 1:2])
    mesh = surface_mesh(jnp.asarray(places, jnp.float32), ball.faces)
    cameras = orbit_camera(jnp.arange(views) + 0.3, 0.35, 1.5, 1.25)

    def draw(vertices):
        found = rasterize(vertices, mesh.faces, cameras, size, cull=True)
        layers = interpolate(found, mesh.faces, vertices), found.hit[..., None]
        moved = dataclasses.replace(mesh, vertices=vertices)
        return antialias(jnp.concatenate(layers, -1), found, moved, cameras)

    slope = jax.jit(jax.grad(lambda vertices: jnp.mean(draw(vertices) ** 2)))
    return {
        "triangles": len(ball.faces),
        "pixels_a_side": size,
        "views": views,
        "forward_ms": _median(jax.jit(draw), mesh.vertices, repeats),
        "forward_and_backward_ms": _median(slope, mesh.vertices, repeats),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "device": jax.devices()[0].device_kind,
    }


def _median(function: Callable[[Any], Any], argument: Any, repeats: int) -> float:
    import jax

    seconds = []
    for _ in range(repeats + 1):  # the first call compiles
        began = time.perf_counter()
        jax.block_until_ready(function(argument))
        seconds.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(seconds[1:]), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--triangles", type=count, default=10_000)
    parser.add_argument("--size", type=count, default=128, help="pixels a side")
    parser.add_argument("--views", type=count, default=1)
    parser.add_argument("--repeats", type=count, default=20)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
