import struct

import numpy as np
import PIL.Image
import pytest
from tensorboardX.proto.event_pb2 import Event

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.metrics import MetricsLog, first_non_finite, read_metrics


def test_log_survives_a_cut_and_a_resume(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (10, 20, 30):
        log.write(step, {"loss": step / 10})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-8])  # a crash in the middle of a line
    assert [r["step"] for r in read_metrics(tmp_path)] == [10, 20]
    MetricsLog(tmp_path, resume_step=10).write(20, {"loss": 5.0})
    assert read_metrics(tmp_path) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 5.0}]


def read_events(folder):
    """All events, oldest file first. TFRecord: length, its checksum, data, its checksum."""
    events = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_tensorboard_gets_numbers_and_pictures(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(10, {"loss": 0.5})
    log.write(20, {"loss": 0.25})
    log.image(20, PIL.Image.new("RGB", (6, 4), (255, 0, 0)))
    log.close()
    again = MetricsLog(tmp_path, resume_step=10)
    again.write(20, {"loss": 0.125})
    again.close()
    events = read_events(tmp_path / "tensorboard")
    values = [(e.step, v) for e in events for v in e.summary.value]
    scalars = [(step, v.simple_value) for step, v in values if v.tag == "loss"]
    assert scalars == [(10, 0.5), (20, 0.25), (20, 0.125)]
    (image,) = (v.image for _, v in values if v.tag == "preview")
    assert (image.height, image.width) == (4, 6)
    # What a resumed run repeats is dropped from step 11 on.
    assert [e.step for e in events if e.HasField("session_log")][-1] == 11


def test_a_full_disk_is_a_sentence(tmp_path, file_limit):
    log = MetricsLog(tmp_path)
    log.write(10, {"loss": 0.5})
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with file_limit(2000), pytest.raises(UserError, match="make room"):
        log.image(10, PIL.Image.fromarray(noise))
    log.close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [10]


def test_first_non_finite_value_is_found():
    good, bad = np.ones(4), np.array([1.0, 2.0, np.nan, np.inf])
    assert first_non_finite({"a": good}) is None
    assert first_non_finite({"a": good, "b": bad}) == (2, "b")
