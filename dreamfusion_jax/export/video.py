"""Frames as files: MP4, GIF and WebP videos, and sequences of PNG files with their cameras."""

import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import PIL.Image
from jaxtyping import UInt8

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.camera_paths import camera_path
from dreamfusion_jax.export.frames import Frame, panels, render_frames
from dreamfusion_jax.export.images import save_png, to_uint8
from dreamfusion_jax.io import replacing, write_bytes
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.types import Camera

TURNTABLE = ("color", "normals", "depth")
VIDEOS = (".mp4", ".gif", ".webp")
_DEPTH_UNIT = 1e-4  # of 16-bit depth, in scene units


def write_turntable(
    scene: Scene,
    params: dict,
    path: str | os.PathLike,
    *,
    step: int = FINISHED,
    frames: int = 48,
    size: int = 128,
    elevation: float = math.radians(15.0),
    distance: float = 1.5,
    focal: float = 1.1,
    frames_per_second: int = 16,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write color, normals and depth of a scene side by side, once around it, on white.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      path: of the .mp4 file; an older one is replaced at once.
      step: of the run, for what is annealed.
      frames: views, evenly spaced in azimuth from the front on, counter-clockwise.
      size: height in pixels of each of the three panels; made even.
      elevation: of the camera, radians.
      distance: of the camera from the origin.
      focal: focal length in image widths.
      frames_per_second: of the video.
      progress: called with the number of frames that are rendered.

    Raises:
      UserError: the field is not finite, or the file cannot be written.
    """
    lens = {"elevation": elevation, "distance": distance, "focal": focal}
    cameras = camera_path("turntable", frames, **lens)
    size += size % 2
    views = list(
        render_frames(scene, params, cameras, size, TURNTABLE, step=step, progress=progress)
    )
    write_video(panels(views, TURNTABLE), path, frames_per_second)


def write_video(
    images: Sequence[UInt8[np.ndarray, "height width channels"]],
    path: str | os.PathLike,
    frames_per_second: int,
) -> None:
    """Write pictures, with or without alpha, as a video that repeats for ever in a browser.

    Args:
      images: the frames; for .mp4 of even height and width, without alpha.
      path: .mp4, .gif or .webp; an older file is replaced at once.
      frames_per_second: of the video.

    Raises:
      UserError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        _write_mp4(images, path, frames_per_second)
        return
    first, *others = (PIL.Image.fromarray(image) for image in images)
    settings: dict[str, Any] = {"save_all": True, "append_images": others, "loop": 0}
    if suffix == ".gif":
        settings["disposal"] = 2  # a frame does not show through the next one's holes
    else:
        settings |= {"quality": 90, "exact": False}
    with replacing(path) as temporary:
        first.save(temporary, duration=round(1000 / frames_per_second), **settings)


def _write_mp4(
    images: Sequence[UInt8[np.ndarray, "height width 3"]], path: Path, frames_per_second: int
) -> None:
    height, width = images[0].shape[:2]
    with replacing(path) as temporary, warnings.catch_warnings():
        # JAX warns of any fork; ffmpeg is started in the child at once, which is safe.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
        try:
            writer = imageio_ffmpeg.write_frames(
                str(temporary),
                (width, height),
                fps=frames_per_second,
                codec="libx264",
                pix_fmt_out="yuv420p",
                macro_block_size=2,
                quality=None,
                output_params=["-crf", "16", "-movflags", "+faststart"],
            )
            writer.send(None)
            for image in images:
                writer.send(np.ascontiguousarray(image))
            writer.close()
        except RuntimeError as error:  # no ffmpeg binary for this platform
            raise UserError(
                f"Cannot encode {path}: no ffmpeg was found; install one or set IMAGEIO_FFMPEG_EXE."
            ) from error
        if not _is_whole(temporary, len(images)):  # ffmpeg's own failures pass unseen
            raise OSError("ffmpeg could not write all of it; is the disk full?")


def _is_whole(path: Path, frames: int) -> bool:
    try:
        return imageio_ffmpeg.count_frames_and_secs(str(path))[0] == frames
    except RuntimeError:  # unreadable
        return False


def write_sequence(
    frames: Sequence[Frame],
    cameras: Camera,
    kinds: Sequence[str],
    folder: str | os.PathLike,
    *,
    transparent: bool = False,
) -> None:
    """Write KIND_0000.png ... for each kind, and transforms.json with the cameras.

    Later frames of a longer sequence that was there are removed.

    Depth has 16 bits: the distance along the ray in ten-thousandths of a scene unit, 0 where the
    object is less than half opaque. Opacity is gray. transforms.json is in the form that
    instant-ngp and nerfstudio read: the size, and of each frame the file of the first kind that
    has colors, the focal length in pixels and the camera-to-world matrix (x right, y up, z
    backward). Where there is depth it names those files, and their unit as
    `integer_depth_scale`, so many scene units a level; `is_euclidean_depth` says that distances
    are along the ray.

    Raises:
      UserError: a file cannot be written.
    """
    folder = Path(folder)
    for kind in kinds:
        if kind in ("depth", "opacity"):
            levels = _depth_levels if kind == "depth" else lambda frame: to_uint8(frame.opacity)
            images = [levels(frame) for frame in frames]
        else:
            images = panels(frames, [kind], transparent=transparent)
        for i, image in enumerate(images):
            save_png(PIL.Image.fromarray(image), folder / f"{kind}_{i:04d}.png")
        for older in folder.glob(f"{kind}_[0-9][0-9][0-9][0-9].png"):  # of a longer sequence
            if int(older.stem[-4:]) >= len(images):
                older.unlink()
    size = frames[0].opacity.shape[0]
    colored = [kind for kind in kinds if kind not in ("depth", "opacity")] or kinds
    text = _transforms(cameras, colored[0], size, depth="depth" in kinds)
    write_bytes(folder / "transforms.json", text.encode())


def _depth_levels(frame: Frame) -> np.ndarray:
    distance = frame.depth / np.maximum(frame.opacity, 1e-6) / _DEPTH_UNIT
    levels = np.where(frame.opacity > 0.5, distance, 0)
    return np.clip(np.rint(levels), 0, 65535).astype(np.uint16)


def _transforms(cameras: Camera, kind: str, size: int, *, depth: bool) -> str:
    matrices = np.zeros((cameras.focal.shape[0], 4, 4))
    matrices[:, :3, :3], matrices[:, :3, 3] = cameras.rotation, cameras.position
    matrices[:, 3, 3] = 1
    focal = np.asarray(cameras.focal, float) * size
    views = [
        {
            "file_path": f"{kind}_{i:04d}.png",
            **({"depth_file_path": f"depth_{i:04d}.png"} if depth else {}),
            "fl_x": round(pixels, 4),
            "fl_y": round(pixels, 4),
            "transform_matrix": matrix.round(6).tolist(),
        }
        for i, (pixels, matrix) in enumerate(zip(focal.tolist(), matrices, strict=True))
    ]
    image = {"w": size, "h": size, "cx": size / 2, "cy": size / 2}
    if depth:
        image |= {"integer_depth_scale": _DEPTH_UNIT, "is_euclidean_depth": True}
    angle = 2 * math.atan(0.5 * size / focal[0])
    return json.dumps({"camera_angle_x": angle, **image, "frames": views}, indent=1) + "\n"
