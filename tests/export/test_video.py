import imageio_ffmpeg
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.video import encode_video, write_turntable


def _decode(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    info = next(reader)
    width, height = info["size"]
    frames = [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]
    return info, np.stack(frames)


@pytest.mark.slow
def test_turntable_shows_colour_normals_and_depth(ball, params, tmp_path):
    seen = []
    path = tmp_path / "turntable.mp4"
    write_turntable(ball, params, path, frames=10, size=31, progress=seen.append)
    info, frames = _decode(path)
    assert frames.shape == (10, 32, 96, 3) and seen == [8, 10]
    assert info["codec"] == "h264" and info["pix_fmt"].startswith("yuv420p")
    colour, normals, depth = np.split(frames[0].astype(int), 3, axis=1)
    for panel in (colour, normals, depth):
        assert panel[:3, :3].min() > 240  # white corners
        assert panel[12:20, 12:20].mean() < 235
    upper, lower = colour[9, 15], colour[22, 15]
    assert upper[0] > upper[2] + 80 and lower[2] > lower[0] + 80
    # The ball seen from the front: n = +x is (1, .5, .5) in the middle, n = +z on top.
    assert normals[15, 15, 0] > 220 and normals[6:9, 15, 2].max() > 200
    # From the left the ball stands nearer (its centre is at +x), so it is not where it was.
    assert np.abs(frames[0].astype(int) - frames[3]).mean() > 1
    assert [p.name for p in tmp_path.iterdir()] == ["turntable.mp4"]


def test_an_unwritable_place_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        encode_video(np.zeros((1, 16, 16, 3), np.uint8), tmp_path / "file" / "a.mp4", 8)
