"""A page, on this machine alone, on which a scene is looked at while it forms (extra `[view]`)."""

import dataclasses
import html
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.baking import with_texture
from dreamfusion_jax.export.frames import KINDS, Lighting, panels, render_frames
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.export.mesh_files import glb_bytes
from dreamfusion_jax.export.view_renderer import Ready, prepare_views
from dreamfusion_jax.scene.base import Scene
from dreamfusion_jax.types import Camera
from dreamfusion_jax.viewer.guarded_server import HOST, start_guarded_server

SIDES = (32, 48, 64, 96, 128, 192, 256, 384)  # pixels of the longer side of a picture
_SLOW, _FAST = 0.35, 0.12  # seconds a picture may and should take while the camera moves
_COMMON = ("gradient_norm", "opacity")  # metrics that are not the guidance's
_IDLE = 0.05  # seconds between two looks at cameras that rest
_PATIENCE = 10.0  # seconds without any browser until a pause ends
_CURVE_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A scene at a step, and where in it something is."""

    scene: Scene
    params: dict
    step: int
    prepared: Ready


@dataclasses.dataclass
class _Client:
    """What a browser has been sent: from where, of which step, and how sharp (in SIDES)."""

    view: tuple = ()
    step: int = -1
    level: int = 0


class _Moved(Exception):
    """The camera or a control has moved: the picture that is being rendered is not wanted."""


class LiveViewer:
    """Serves a page on this machine until it is closed.

    Its address, `url`, is secret: who does not know it gets no answer, see `guarded_server`.

    Pictures are rendered here: small ones while the camera moves, so that at least two a second
    come, and sharper ones when it rests.

    Args:
      scene: modules and sampling numbers.
      title: of the page, shown as plain text.
      distance: of the first camera from the origin.
      focal: its focal length in image widths.
      port: of the page.
      mesh: keyword arguments resolution and triangles of `extract_mesh`.
      texture_size: of the exported mesh, pixels.
      training: whether there is something to pause.

    Raises:
      UserError: viser is missing, or the port is in use.
    """

    def __init__(
        self,
        scene: Scene,
        title: str,
        *,
        distance: float,
        focal: float,
        port: int = 8080,
        mesh: Mapping[str, Any] | None = None,
        texture_size: int = 1024,
        training: bool = False,
    ):
        _import_viser()
        _check_port(port)
        self._scene, self._mesh, self._texture_size = scene, dict(mesh or {}), texture_size
        self._latest: tuple[Scene, dict, int] | None = None
        self._snapshot: Snapshot | None = None
        self._looked_at: int | None = None  # the step that is, or cannot be, in the snapshot
        self._settings, self._paused, self._closed = 0, False, False
        self._moving = SIDES.index(64)
        self._curve: list[tuple[int, float]] = []
        self.sent = 0  # pictures
        self.server, self.url = start_guarded_server(port, label="dreamfusion", verbose=False)
        self.server.scene.set_up_direction("+z")
        self.server.initial_camera.position = distance * np.array([0.85, 0.45, 0.28])
        self.server.initial_camera.look_at = np.zeros(3)
        self.server.initial_camera.fov = 2 * math.atan(0.5 / focal)
        self._add_controls(title, training)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="viewer")
        self._thread.start()

    @property
    def paused(self) -> bool:
        """Whether somebody wants the training to wait."""
        return self._paused

    def show(
        self,
        params: dict,
        step: int,
        metrics: Mapping[str, float] | None = None,
        *,
        scene: Scene | None = None,
    ) -> None:
        """Show a newer state of the scene, which may be another than before, and its loss."""
        self._scene = scene or self._scene
        self._latest = self._scene, params, step
        self._status.content = f"Step {step}"
        own = [value for name, value in (metrics or {}).items() if _is_of_guidance(name)]
        if own:
            self._curve.append((step, own[0]))
            chosen = np.unique(np.linspace(0, len(self._curve) - 1, _CURVE_POINTS).astype(int))
            points = np.array(self._curve, float)[chosen]
            self._chart.data = (points[:, 0], points[:, 1])
            self._chart.visible = len(points) > 1

    def close(self) -> None:
        """End the page."""
        self._closed = True
        self._thread.join(timeout=10)
        self.server.stop()

    def _add_controls(self, title: str, training: bool) -> None:
        gui = self.server.gui
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.add_markdown(f"## {as_markdown(title)}")
        waits = " The first steps are compiled, which may take some minutes." if training else ""
        self._status = gui.add_markdown(f"Nothing to show yet.{waits}")
        self._kind = gui.add_dropdown("Show", KINDS, initial_value="shaded")
        with gui.add_folder("Light"):
            self._follows = gui.add_checkbox("above the camera", True)
            self._azimuth = gui.add_slider("azimuth", -180, 180, 5, 45)
            self._elevation = gui.add_slider("elevation", -90, 90, 5, 45)
            self._ambient = gui.add_slider("ambient", 0.0, 1.0, 0.05, 0.3)
        for control in (self._kind, self._follows, self._azimuth, self._elevation, self._ambient):
            control.on_update(self._changed)
        import viser.uplot

        self._chart = gui.add_uplot(
            (np.zeros(2), np.zeros(2)),
            (viser.uplot.Series(label="step"), viser.uplot.Series(label="loss", stroke="#2f6fb5")),
            scales={"x": {"time": False}},
            title="guidance",
            height=180,
            visible=False,
        )
        if training:
            self._pause = gui.add_button("Pause")
            self._pause.on_click(self._toggle)
        gui.add_button("Download mesh.glb").on_click(self._download)

    def _changed(self, _) -> None:
        self._settings += 1

    def _toggle(self, _) -> None:
        self._paused = not self._paused
        self._pause.label = "Resume" if self._paused else "Pause"

    def _download(self, event) -> None:
        try:
            if self._latest is None:
                raise UserError("There is nothing to export yet.")
            scene, params, step = self._latest
            mesh = extract_mesh(scene, params, step=step, **self._mesh)
            mesh = with_texture(scene, params, mesh, self._texture_size, step=step)
        except UserError as error:
            event.client.add_notification("No mesh", str(error), auto_close_seconds=20)
            return
        event.client.send_file_download("mesh.glb", glb_bytes(mesh), save_immediately=True)

    def _serve(self) -> None:
        clients: dict[int, _Client] = {}
        seen = time.monotonic()  # when somebody was there
        while not self._closed:
            connected = self.server.get_clients()
            clients = {i: clients.get(i, _Client()) for i in connected}
            if connected:
                seen = time.monotonic()
            elif self._paused and time.monotonic() - seen > _PATIENCE:
                self._toggle(None)
            try:
                busy = bool(connected) and self._send_one(connected, clients)
            except Exception as error:  # for example no memory left beside the training
                self._status.content = as_markdown(f"No picture: {error}")
                busy = False
            if not busy:
                time.sleep(_IDLE)

    def _newest(self) -> Snapshot | None:
        """Return the newest state that is finite; None where there is none."""
        latest = self._latest
        if latest is not None and latest[2] != self._looked_at:
            self._looked_at = latest[2]
            try:
                if self._snapshot is None:
                    told = self._status.content
                    self._status.content = f"{told}. The first picture takes some seconds more."
                self._snapshot = Snapshot(*latest, prepare_views(*latest))
            except UserError as error:
                self._status.content = as_markdown(str(error))
        return self._snapshot

    def _send_one(self, handles: dict, clients: dict[int, _Client]) -> bool:
        """Send one picture, where a better one than the last is to be had.

        Who moves comes first, and nobody's picture is sharpened meanwhile.
        """
        snapshot = self._newest()
        # A page has yet to say where it looks from as long as it has no height.
        ready = [i for i, handle in handles.items() if handle.camera.image_height]
        if snapshot is None or not ready:
            return False

        def view(i):
            return handles[i].camera.update_timestamp, self._settings

        def stop_if_moved():
            if self._closed or any(view(i) != clients[i].view for i in ready):
                raise _Moved

        moved = [i for i in ready if view(i) != clients[i].view]
        for i in moved or ready:
            client, now = clients[i], view(i)
            if moved:
                level = self._moving
            elif snapshot.step != client.step:
                # The scene has changed, the view has not: as sharp as before, if that is quick.
                level = min(client.level, self._moving + 2)
            elif client.level < len(SIDES) - 1:
                level = min(client.level + 2, len(SIDES) - 1)
            else:
                continue
            began = time.perf_counter()
            before_chunk = None if moved else stop_if_moved
            try:
                image = self._image(snapshot, handles[i].camera, SIDES[level], before_chunk)
            except _Moved:
                return True
            if i in self.server.get_clients():
                if not self.sent:
                    self._status.content = f"Step {snapshot.step}"
                handles[i].scene.set_background_image(image, format="jpeg", jpeg_quality=90)
                self.sent += 1
            seconds = time.perf_counter() - began
            if moved:
                change = (seconds < _FAST) - (seconds > _SLOW)
                self._moving = min(max(self._moving + change, 0), SIDES.index(192))
            client.view, client.step, client.level = now, snapshot.step, level
            return True
        return False

    def _image(
        self, snapshot: Snapshot, camera, side: int, before_chunk: Callable[[], None] | None
    ) -> UInt8[np.ndarray, "height width 3"]:
        kind, direction = self._kind.value, None
        if not self._follows.value:
            direction = math.radians(self._azimuth.value), math.radians(self._elevation.value)
        ambient = self._ambient.value
        lighting = Lighting(direction, (1 - ambient,) * 3, (ambient,) * 3)
        aspect = camera.image_width / camera.image_height
        width = side if aspect >= 1 else max(round(side * aspect), 1)
        height = side if aspect <= 1 else max(round(side / aspect), 1)
        focal = 0.5 * height / math.tan(camera.fov / 2) / side
        view = pinhole(np.asarray(camera.position), np.asarray(camera.wxyz), focal)
        frames = render_frames(
            snapshot.scene,
            snapshot.params,
            view,
            side,
            [kind],
            lighting=lighting,
            prepared=snapshot.prepared,
            chunk=1024,
            before_chunk=before_chunk,
        )
        (square,) = panels(list(frames), [kind])
        top, left = (side - height) // 2, (side - width) // 2
        return square[top : top + height, left : left + width]


def _is_of_guidance(metric: str) -> bool:
    return metric not in _COMMON and not metric.startswith("loss/")


def as_markdown(text: str) -> str:
    """Return Markdown that shows a text as it is: no HTML, no links, no pictures."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~>:/])", r"\\\1", one_line)


def pinhole(position: Float[np.ndarray, "3"], wxyz: Float[np.ndarray, "4"], focal: float) -> Camera:
    """Return a batch of one camera from viser's: a quaternion, x right, y down and z forward."""
    import viser.transforms

    turn = viser.transforms.SO3(wxyz).as_matrix() * np.array([1.0, -1.0, -1.0])
    zero = jnp.zeros(1)
    return Camera(
        position=jnp.asarray(position, jnp.float32)[None],
        rotation=jnp.asarray(turn, jnp.float32)[None],
        focal=jnp.full(1, focal),
        azimuth=zero,
        elevation=zero,
    )


def _import_viser():
    try:
        import viser
    except ImportError as error:
        raise UserError("The viewer needs viser: pip install 'dreamfusion_jax[view]'.") from error
    return viser


def _check_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise UserError(f"The port {port} must be within 1 and 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"Port {port}: {reason}; choose another one with --port.") from error
