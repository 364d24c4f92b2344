"""Measures the live page on this machine: python launch/benchmark_viewer.py WORKDIR

Pictures a second while a browser's camera moves around the finished run in WORKDIR (needs
Playwright and Chromium), and how much slower training is when the page is open and nobody looks.
"""

import argparse
import json
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from arguments import count

from dreamfusion_jax import api
from dreamfusion_jax.errors import UserError
from dreamfusion_jax.results import open_viewer
from dreamfusion_jax.train.checkpoint import read_config, restore_run

_SECONDS = 10  # of moving
_BROWSER = ["--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]


def main() -> int:
    """Print the figures, and the same as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", help="folder of a finished run")
    parser.add_argument("--steps", type=count, default=100, help="of training, with and without")
    options = parser.parse_args()
    try:
        import playwright  # noqa: F401  # both before minutes of training

        read_config(options.workdir)
        figures = slowdown(options.steps)  # first: it decides how many devices there are
        figures |= images(options.workdir)
    except (UserError, ImportError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    for key, value in figures.items():
        print(f"{key:<52} {value}")
    print(json.dumps(figures))
    return 0


def images(workdir: str) -> dict:
    """Return pictures a second that reach a browser whose camera never rests."""
    from playwright.sync_api import sync_playwright

    run = restore_run(workdir)
    viewer = open_viewer(run.scene, run.config, run.config.prompt.text, _free_port())
    viewer.show(run.params, run.step)
    try:
        with sync_playwright() as p:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = p.chromium.launch(executable_path=chromium, args=_BROWSER)
            page = browser.new_page(viewport={"width": 1000, "height": 700})
            page.goto(viewer.url)
            page.wait_for_selector("canvas")
            while viewer.sent < 4:  # compiled, and sharpened once
                time.sleep(0.1)
            _drag(page, 4.0)  # finds the size that this machine manages
            before = viewer.sent
            _drag(page, _SECONDS)
            rate = (viewer.sent - before) / _SECONDS
            browser.close()
    finally:
        viewer.close()
    return {"pictures a second while the camera moves": round(rate, 2)}


def _drag(page, seconds: float) -> None:
    page.mouse.move(350, 350)
    page.mouse.down()
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        page.mouse.move(350 + 150 * np.sin(now), 350 + 40 * np.cos(now))
        time.sleep(0.03)
    page.mouse.up()


def slowdown(steps: int, pairs: int = 4) -> dict:
    """Time views a second of training without the page and with it, in turns, and their medians."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(2 * pairs):
            settings = {"train.steps": steps, "export.turntable_frames": 1}
            port = _free_port() if i % 2 else None
            where = Path(folder) / str(i)
            result = api.generate(
                "a teapot", workdir=where, progress=False, viewer_port=port, **settings
            )
            own = [row["views_per_second"] for row in result.metrics]
            rates[port is not None].append(float(np.median(own[1:])))  # the first call compiles
    without, opened = (float(np.median(rates[page])) for page in (False, True))
    return {
        "training without the page, views a second": [round(r, 2) for r in rates[False]],
        "with it open and nobody there": [round(r, 2) for r in rates[True]],
        "slower, medians, %": round(100 * (1 - opened / without), 1),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
