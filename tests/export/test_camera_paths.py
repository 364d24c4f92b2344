import json

import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.camera_paths import camera_path

LENS = {"elevation": 0.25, "distance": 1.5, "focal": 1.2}


def test_turntable_goes_once_around():
    cameras = camera_path("turntable", 4, **LENS)
    np.testing.assert_allclose(np.degrees(cameras.azimuth), [0, 90, 180, 270], atol=1e-4)
    np.testing.assert_allclose(cameras.elevation, 0.25)


def test_swing_stays_in_front_and_spiral_rises():
    swing = np.degrees(camera_path("swing", 8, **LENS).azimuth)
    assert swing.min() == pytest.approx(-45, abs=1e-3) and swing.max() == pytest.approx(
        45, abs=1e-3
    )
    spiral = np.degrees(camera_path("spiral", 9, **LENS).elevation)
    np.testing.assert_allclose(np.diff(spiral), 10, atol=1e-4)


def test_a_file_holds_any_path(tmp_path):
    poses = [{"azimuth": 30, "elevation": 10}, {"azimuth": 40, "elevation": -5, "distance": 2}]
    (tmp_path / "path.json").write_text(json.dumps(poses))
    cameras = camera_path(str(tmp_path / "path.json"), 99, **LENS)
    np.testing.assert_allclose(np.degrees(cameras.azimuth), [30, 40], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(cameras.position, axis=1), [1.5, 2], rtol=1e-6)
    np.testing.assert_allclose(cameras.focal, 1.2)


@pytest.mark.parametrize(
    "text",
    [
        *("[", "[]", "{}", '[{"azimuth": 1}]', '[{"azimuth": 1, "elevation": "up"}]'),
        *('{"frames": []}', '{"frames": [{"transform_matrix": [[1, 2], [3]]}]}'),
        '{"frames": [{"transform_matrix": [[1]], "fl_x": 1}], "w": 0}',
        '{"frames": [[]]}',
    ],
)
def test_a_bad_file_is_a_sentence(tmp_path, text):
    (tmp_path / "path.json").write_text(text)
    with pytest.raises(UserError, match="path.json"):
        camera_path(str(tmp_path / "path.json"), 4, **LENS)


def test_an_unknown_path_is_named():
    with pytest.raises(UserError, match="'dive'"):
        camera_path("dive", 4, **LENS)
