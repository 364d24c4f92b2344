import numpy as np

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


def test_first_non_finite_value_is_found():
    good, bad = np.ones(4), np.array([1.0, 2.0, np.nan, np.inf])
    assert first_non_finite({"a": good}) is None
    assert first_non_finite({"a": good, "b": bad}) == (2, "b")
