"""The page in a headless browser, where there is one."""

import io
import shutil
import socket
import time

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.viewer.live_viewer import LiveViewer, pinhole


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_cameras_of_the_page_are_ours():
    viser = pytest.importorskip("viser")
    wanted = orbit_camera(jnp.array([0.7]), 0.3, 1.5, 1.2)
    # viser's frame: x right, y down, z forward.
    turn = np.asarray(wanted.rotation[0], float) * np.array([1, -1, -1])
    wxyz = viser.transforms.SO3.from_matrix(turn).wxyz
    got = pinhole(np.asarray(wanted.position[0]), wxyz, 1.2)
    np.testing.assert_allclose(got.rotation, wanted.rotation, atol=1e-6)
    np.testing.assert_allclose(got.position, wanted.position, atol=1e-6)


def test_a_port_in_use_is_a_sentence(ball):
    pytest.importorskip("viser")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="in use; choose another one with --port"):
            LiveViewer(ball, "", distance=1.5, focal=1.2, port=taken.getsockname()[1])


def test_a_missing_extra_is_a_sentence(ball, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    with pytest.raises(UserError, match=r"dreamfusion_jax\[view\]"):
        LiveViewer(ball, "", distance=1.5, focal=1.2, port=free_port())


@pytest.fixture
def browser():
    pytest.importorskip("viser")
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as p:
        arguments = ["--no-sandbox", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
        browser = p.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


def until(condition, seconds=60.0):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_page_shows_the_scene_and_its_controls_act(ball, params, browser):
    mesh = {"resolution": 24, "triangles": 500}
    viewer = LiveViewer(
        ball,
        "## a ball",
        distance=1.5,
        focal=1.2,
        port=free_port(),
        mesh=mesh,
        texture_size=64,
        training=True,
    )
    page = browser.new_page(viewport={"width": 900, "height": 640})
    problems = []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))

    def colors():
        """Of the ball's middle."""
        shot = PIL.Image.open(io.BytesIO(page.screenshot()))
        return np.asarray(shot.convert("RGB"), int)[280:360, 250:400].reshape(-1, 3)

    try:
        page.goto(viewer.url)
        page.wait_for_selector("canvas")
        viewer.show(params, 25, {"sds_residual": 0.5})
        # The ball is red above and blue below.
        until(lambda: (colors() @ [1, 0, -1] > 60).any() and (colors() @ [1, 0, -1] < -40).any())
        viewer.show(params, 50, {"sds_residual": 0.4})
        page.wait_for_selector("text=Step 50")

        before = colors()
        page.mouse.move(300, 320)
        page.mouse.down()
        page.mouse.move(300, 480, steps=8)  # to a view from above: nothing blue is left
        page.mouse.up()
        until(lambda: (colors() @ [1, 0, -1] < -40).sum() == 0)
        assert (colors() @ [1, 0, -1] > 60).any()
        assert np.abs(colors() - before).mean() > 5

        page.get_by_role("combobox").click()
        page.get_by_role("option", name="normals").click()
        until(lambda: (colors()[:, 2] > 200).any() and (colors()[:, 0] < 160).any())

        page.get_by_role("button", name="Pause").click()
        until(lambda: viewer.paused)
        page.get_by_role("button", name="Resume").click()
        until(lambda: not viewer.paused)

        with page.expect_download(timeout=60_000) as download:
            page.get_by_role("button", name="Download mesh.glb").click()
        with open(download.value.path(), "rb") as file:
            assert file.read(4) == b"glTF"
        assert not problems
    finally:
        viewer.close()
