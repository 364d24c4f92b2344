import json

import imageio_ffmpeg
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.camera_paths import camera_path
from dreamfusion_jax.export.frames import render_frames
from dreamfusion_jax.export.video import write_sequence, write_turntable, write_video
from dreamfusion_jax.scene.cameras import orbit_camera


def _decode(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    info = next(reader)
    width, height = info["size"]
    frames = [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]
    return info, np.stack(frames)


@pytest.mark.slow
def test_turntable_shows_color_normals_and_depth(ball, params, tmp_path):
    seen = []
    path = tmp_path / "turntable.mp4"
    write_turntable(ball, params, path, frames=10, size=31, progress=seen.append)
    info, frames = _decode(path)
    assert frames.shape == (10, 32, 96, 3) and seen == [8, 10]
    assert info["codec"] == "h264" and info["pix_fmt"].startswith("yuv420p")
    color, normals, depth = np.split(frames[0].astype(int), 3, axis=1)
    for panel in (color, normals, depth):
        assert panel[:3, :3].min() > 240  # white corners
        assert panel[12:20, 12:20].mean() < 235
    upper, lower = color[9, 15], color[22, 15]
    assert upper[0] > upper[2] + 80 and lower[2] > lower[0] + 80
    # The ball seen from the front: n = +x is (1, .5, .5) in the middle, n = +z on top.
    assert normals[15, 15, 0] > 220 and normals[6:9, 15, 2].max() > 200
    # From the left the ball stands nearer (its center is at +x), so it is not where it was.
    assert np.abs(frames[0].astype(int) - frames[3]).mean() > 1
    assert [p.name for p in tmp_path.iterdir()] == ["turntable.mp4"]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animated_pictures_keep_frames_time_and_holes(tmp_path, suffix):
    frames = np.zeros((3, 8, 12, 4), np.uint8)
    for i, frame in enumerate(frames):
        frame[2:6, 3 * i : 3 * i + 4] = (200, 30, 30, 255)
    path = tmp_path / f"a{suffix}"
    write_video(list(frames), path, 10)
    film = PIL.Image.open(path)
    assert film.n_frames == 3 and film.info["loop"] == 0
    for i, frame in enumerate(frames):
        film.seek(i)
        shown = np.asarray(film.convert("RGBA"))
        assert film.info["duration"] == 100
        np.testing.assert_array_equal(shown[..., 3], frame[..., 3])
        np.testing.assert_allclose(shown[3, 3 * i + 1, :3], (200, 30, 30), atol=12)


def test_sequences_hold_sixteen_bit_depth_and_cameras(ball, params, tmp_path):
    cameras = orbit_camera(jnp.array([0.0, jnp.pi / 2]), 0.0, 1.5, 1.2)
    kinds = ["shaded", "depth", "opacity"]
    views = list(render_frames(ball, params, cameras, 32, kinds))
    write_sequence(views, cameras, kinds, tmp_path, transparent=True)
    assert len(list(tmp_path.glob("*.png"))) == 6
    depth = np.asarray(PIL.Image.open(tmp_path / "depth_0000.png"))
    assert depth.dtype == np.uint16 and depth[0, 0] == 0
    # The ball's front: distance 1.5, center at 0.1 towards the camera, radius 0.3.
    assert depth[15, 15] * 1e-4 == pytest.approx(1.5 - 0.1 - 0.294, abs=0.02)
    shaded = np.asarray(PIL.Image.open(tmp_path / "shaded_0001.png"))
    opacity = np.asarray(PIL.Image.open(tmp_path / "opacity_0001.png"))
    np.testing.assert_array_equal(shaded[..., 3], opacity)
    cameras_file = json.loads((tmp_path / "transforms.json").read_text())
    first, second = cameras_file["frames"]
    assert first["file_path"] == "shaded_0000.png"
    # The second camera stands at +y and looks back along it, z up.
    matrix = np.array(second["transform_matrix"])
    np.testing.assert_allclose(matrix[:3, 3], [0, 1.5, 0], atol=1e-5)
    np.testing.assert_allclose(matrix[:3, :3].T, [[-1, 0, 0], [0, 0, 1], [0, 1, 0]], atol=1e-5)
    assert np.tan(cameras_file["camera_angle_x"] / 2) == pytest.approx(0.5 / 1.2)
    assert first["fl_x"] == pytest.approx(1.2 * 32) and cameras_file["cx"] == 16
    assert second["depth_file_path"] == "depth_0001.png"
    assert cameras_file["integer_depth_scale"] == 1e-4 and cameras_file["is_euclidean_depth"]
    # The same cameras again.
    lens = {"elevation": 0.3, "distance": 9.0, "focal": 9.0}
    again = camera_path(str(tmp_path / "transforms.json"), 99, **lens)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(cameras), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)

    write_sequence(views[:1], cameras, ["depth"], tmp_path)  # a shorter one
    assert [p.name for p in tmp_path.glob("depth*.png")] == ["depth_0000.png"]
    assert len(list(tmp_path.glob("shaded*.png"))) == 2


def test_a_video_that_does_not_fit_leaves_the_older_one(tmp_path, file_limit):
    path, rng = tmp_path / "a.mp4", np.random.default_rng(0)
    write_video([np.zeros((16, 16, 3), np.uint8)], path, 8)
    before = path.read_bytes()
    noise = [rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(8)]
    with file_limit(2000), pytest.raises(UserError, match="Cannot write"):
        write_video(noise, path, 8)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write_video([np.zeros((16, 16, 3), np.uint8)], tmp_path / "file" / "a.mp4", 8)
