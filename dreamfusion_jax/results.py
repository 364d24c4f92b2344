"""What is done with a run: its pictures, videos, mesh and report."""

import dataclasses
import html
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
import PIL.Image

from dreamfusion_jax.errors import NoSurface, UserError
from dreamfusion_jax.export.baking import with_texture, with_vertex_colors
from dreamfusion_jax.export.camera_paths import camera_path
from dreamfusion_jax.export.frames import Lighting, check_kinds, panels, render_frames
from dreamfusion_jax.export.images import save_png, sheet
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.export.mesh_files import SUFFIXES, TEXTURED, size_in_file, write_mesh
from dreamfusion_jax.export.report import mesh_html, video_html, write_report
from dreamfusion_jax.export.video import (
    TURNTABLE,
    VIDEOS,
    write_sequence,
    write_turntable,
    write_video,
)
from dreamfusion_jax.export.view_settings import (
    check_images,
    check_mesh,
    mesh_memory,
    view_settings,
)
from dreamfusion_jax.io import local_path
from dreamfusion_jax.scene.base import Scene
from dreamfusion_jax.startup import prepare_jax
from dreamfusion_jax.train.checkpoint import FOLDER, restore_run, saved_steps
from dreamfusion_jax.train.metrics import read_metrics
from dreamfusion_jax.viewer.live_viewer import LiveViewer

# What a name may end in that is meant as one file, and cannot be written; "frames.v1" is a folder.
_OTHER_FORMATS = {
    *(".avi", ".mkv", ".mov", ".webm", ".m4v", ".apng", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
    *(".exr", ".npy", ".npz", ".svg", ".pdf", ".zip", ".json", ".txt", *SUFFIXES),
}
_NEWER = 1.0  # seconds between two looks for a newer checkpoint


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves behind: paths of its files, and its logged metrics.

    As the last value of a notebook's cell it shows the turntable, and the mesh to be turned.
    """

    workdir: Path
    video: Path
    mesh: Path
    images: tuple[Path, ...]
    metrics: list[dict[str, Any]]

    def _repr_html_(self) -> str:
        video = video_html(self.video) if self.video.is_file() else ""
        place = html.escape(str(self.workdir))
        shown = f"{video}{mesh_html(self.mesh)}<code>{place}</code>"
        return f'<div style="max-width: 720px">{shown}</div>'


def read_result(workdir: Path) -> Result:
    """Return the result in a run's folder."""
    return Result(
        workdir=workdir,
        video=workdir / "turntable.mp4",
        mesh=workdir / "mesh.glb",
        images=tuple(sorted((workdir / "previews").glob("*.png"))),
        metrics=read_metrics(workdir),
    )


def export_all(workdir: str | Path, *, progress: bool = False) -> Result:
    """Write turntable.mp4, mesh.glb and report.html of a run from its newest checkpoint."""
    workdir = local_path(workdir)
    prepare_jax()
    run = restore_run(workdir)
    if progress:
        print("Rendering the turntable and extracting the mesh ...", file=sys.stderr)
    settings = run.config.export
    write_turntable(
        run.scene,
        run.params,
        workdir / "turntable.mp4",
        frames=settings.turntable_frames,
        size=settings.turntable_size,
        step=run.step,
        **view_settings(run.config.eval_camera),
    )
    try:
        export_mesh(
            workdir,
            workdir / "mesh.glb",
            resolution=settings.mesh_resolution,
            triangles=settings.triangles,
            texture_size=settings.texture_size,
        )
    except NoSurface:  # an object without a surface still has a video and a report
        write_report(workdir)
        raise
    write_report(workdir)
    return read_result(workdir)


def render(
    workdir: str | Path,
    out: str | Path,
    *,
    show: Sequence[str] = TURNTABLE,
    path: str = "turntable",
    frames: int | None = None,
    size: int = 128,
    elevation: float = 15.0,
    light: tuple[float, float] | None = None,
    light_color: tuple[float, float, float] = Lighting.color,
    ambient_color: tuple[float, float, float] = Lighting.ambient,
    transparent: bool = False,
    frames_per_second: int = 16,
    step: int | None = None,
) -> Path:
    """Render a run, lit and seen as one likes.

    Args:
      workdir: folder of a run.
      out: a video (.mp4, .gif, .webp), a sheet (.png: a row for each kind, a column for each
        frame), or a folder for one PNG file a kind and frame, with 16-bit depth, and the cameras.
      show: kinds of pictures, side by side in videos: color, shaded, textureless, normals,
        depth, opacity.
      path: of the camera, see `export.camera_paths.camera_path`.
      frames: of the path; by default 4 in a sheet, else 48.
      size: pixels of each picture, 8 to 4096.
      elevation: of the camera, degrees.
      light: azimuth and elevation of the lamp in degrees; None puts it above each camera.
      light_color: RGB, factors of the albedo.
      ambient_color: the same of the light from everywhere.
      transparent: writes alpha in place of the white background; not into .mp4.
      frames_per_second: of videos.
      step: of the checkpoint; by default the newest.

    Raises:
      UserError: an argument is out of its range, or `workdir` is no run.
    """
    out, kinds = local_path(out), list(show)
    suffix = out.suffix.lower()
    video, png = suffix in VIDEOS, suffix == ".png"
    if suffix in _OTHER_FORMATS:
        raise UserError(f"{out} must end in {', '.join(VIDEOS)} or .png, or be a folder.")
    frames = frames if frames is not None else 4 if png else 48
    check_images(frames, size)
    fastest = 50 if suffix == ".gif" else 120  # browsers slow faster GIFs down
    if not 1 <= frames_per_second <= fastest:
        raise UserError(f"{frames_per_second} frames a second are not within 1 and {fastest}.")
    if not -90 <= elevation <= 90:
        raise UserError(f"The elevation is {elevation} degrees; it must be within -90 and 90.")
    if transparent and suffix == ".mp4":
        raise UserError("An .mp4 video has no transparency; write .webp, .gif or PNG files.")
    check_kinds(kinds)
    prepare_jax()
    run = restore_run(workdir, step)
    view = view_settings(run.config.eval_camera) | {"elevation": math.radians(elevation)}
    cameras = camera_path(path, frames, **view)
    size += size % 2 if video else 0  # H.264 wants even sides
    direction = None if light is None else (math.radians(light[0]), math.radians(light[1]))
    lighting = Lighting(direction, light_color, ambient_color)
    rendered = render_frames(
        run.scene,
        run.params,
        cameras,
        size,
        kinds,
        lighting=lighting,
        step=run.step,
    )
    views = list(rendered)
    if video:
        write_video(panels(views, kinds, transparent=transparent), out, frames_per_second)
    elif png:
        rows = [panels(views, [kind], transparent=transparent) for kind in kinds]
        save_png(PIL.Image.fromarray(sheet(rows)), out)
    else:
        write_sequence(views, cameras, kinds, out, transparent=transparent)
    return out


def export_mesh(
    workdir: str | Path,
    out: str | Path,
    *,
    resolution: int = 128,
    triangles: int = 20_000,
    texture_size: int = 1024,
    millimeters: float = 100.0,
    threshold: float | None = None,
    centered: bool = False,
    step: int | None = None,
    progress: bool = False,
) -> Path:
    """Write the mesh of a run: .glb and .obj with a texture, .ply with vertex colors, .stl.

    Args:
      workdir: folder of a run.
      out: the file to write. In .glb and .obj y is up and the front is +z, as glTF asks; in .ply
        and .stl z is up.
      resolution: grid points along an edge of the bounding box, 8 to 1024; of a field, as a surface
        is exported as it is.
      triangles: how many the mesh may have, at least 100; 0 leaves all, and where so few would
        tear the surface open there are more.
      texture_size: pixels of the texture's side, 64 to 8192.
      millimeters: length of the longest side in an .stl file.
      threshold: density of a field's surface; by default that which agrees best with the
        renderings, see `export.surface`.
      centered: keep the scene's origin, the middle of the object. Else it stands on 0, as slicers
        and viewers expect: in .glb and .obj y is 0 at its lowest point, in .stl z.
      step: of the checkpoint; by default the newest.
      progress: whether to say how much memory it takes and how large the mesh is, and to show
        progress bars.

    Raises:
      UserError: an argument is out of its range, `workdir` is no run, or the scene has no surface.
    """
    out = local_path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"{out} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    check_mesh(resolution, triangles, texture_size)
    if not 0 < millimeters < math.inf:
        raise UserError(f"The size is {millimeters} mm; it must be positive.")
    if threshold is not None and not 0 < threshold < math.inf:
        raise UserError(f"The threshold is {threshold}; it is a density, above 0.")
    prepare_jax()
    run = restore_run(workdir, step)
    textured = out.suffix.lower() in TEXTURED
    if progress:
        need = mesh_memory(resolution, texture_size if textured else 0)
        print(f"Extracting the mesh takes about {need:.1f} GB of memory.", file=sys.stderr)
    scene, params = run.scene, run.params
    how: dict[str, Any] = {"step": run.step, "progress": progress}
    mesh = extract_mesh(scene, params, resolution, triangles, level=threshold, **how)
    if textured:
        mesh = with_texture(scene, params, mesh, texture_size, **how)
    elif out.suffix.lower() == ".ply":
        mesh = with_vertex_colors(scene, params, mesh, step=run.step)
    write_mesh(mesh, out, millimeters=millimeters, centered=centered)
    if progress:
        print(f"The mesh is {size_in_file(mesh, out, millimeters)}.", file=sys.stderr)
    return out


def view(workdir: str | Path, port: int = 8080, *, step: int | None = None) -> None:
    """Serve a page that shows a run, and newer checkpoints as they come, until Ctrl-C.

    Args:
      workdir: folder of a run, finished or still going on.
      port: of the page on this machine; its whole address is printed.
      step: of the checkpoint; by default the newest, and those that come after.

    Raises:
      UserError: viser is missing (extra `[view]`), the port is in use, or `workdir` is no run.
    """
    workdir = local_path(workdir)
    prepare_jax()
    run = restore_run(workdir, step)
    page = open_viewer(run.scene, run.config, run.config.prompt.text, port)
    print(f"{workdir} is shown at {page.url}; Ctrl-C ends it.", file=sys.stderr)
    try:
        while True:
            page.show(run.params, run.step, scene=run.scene)
            while step or max(saved_steps(workdir / FOLDER), default=run.step) == run.step:
                time.sleep(_NEWER)
            run = restore_run(workdir)
    except KeyboardInterrupt:
        print("The page is closed.", file=sys.stderr)
    finally:
        page.close()


def open_viewer(
    scene: Scene,
    config: ml_collections.ConfigDict,
    prompt: str,
    port: int,
    *,
    training: bool = False,
) -> LiveViewer:
    """Return a page for a run's scene, see `viewer.live_viewer`."""
    export, camera = config.export, config.eval_camera
    return LiveViewer(
        scene,
        prompt,
        distance=camera.distance,
        focal=camera.focal,
        port=port,
        mesh={"resolution": export.mesh_resolution, "triangles": export.triangles},
        texture_size=export.texture_size,
        training=training,
    )
