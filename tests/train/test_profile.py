import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.train.loop import Callbacks
from dreamfusion_jax.train.profile import Profile, profiling, steps_to_profile


@pytest.mark.parametrize("text", ["", "5", "5:", ":5", "5:5", "7:5", "-1:5", "0:9", "1:2:3", "a:b"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(UserError, match=r"takes N:M.* the 8 steps"):
        steps_to_profile(text, 8)
    assert steps_to_profile("0:8", 8) == range(8)


def traces(folder):
    return [path.read_bytes() for path in (folder / "profile").rglob("*.xplane.pb")]


@pytest.mark.slow
def test_the_trace_covers_the_calls_of_the_steps(
    tiny_config, ball_prior, train_one, tmp_path, capsys
):
    """Two steps a call: 3:5 are in the second and in the third; named scopes can be found."""
    recorded = []
    with profiling(range(3, 5), tmp_path) as around:
        profile = around.__self__

        def look(job, step, metrics, scene, params):
            recorded.append((step, profile.running))

        train_one(
            tiny_config(),
            ball_prior,
            tmp_path / "run",
            callbacks=Callbacks(after_call=look, around_call=around),
        )
    assert recorded == [(2, False), (4, True), (6, False), (8, False)]
    (trace,) = traces(tmp_path)
    for scope in (b"jvp(render)/", b"/optimizer/", b"/mean_over_devices/"):
        assert scope in trace
    assert f"The steps 2:6 are profiled in {tmp_path}" in capsys.readouterr().err

    train_again = {"callbacks": Callbacks(around_call=Profile(range(1), tmp_path).around_call)}
    with profiling(range(3, 5), tmp_path / "again") as around:
        train_one(tiny_config(), ball_prior, tmp_path / "run", **train_again)  # is at its end
    assert "were done before" in capsys.readouterr().err and not traces(tmp_path / "again")


def test_a_stopped_run_leaves_its_trace(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), profiling(range(100), tmp_path) as around:
        with around(0, 2):
            pass
        raise KeyboardInterrupt
    assert len(traces(tmp_path)) == 1 and "The steps 0:2 are" in capsys.readouterr().err


def test_a_trace_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    (tmp_path / "profile").write_text("a file is in its way")
    with profiling(range(2), tmp_path) as around, around(0, 2):
        pass
    assert "No profile can be written" in capsys.readouterr().err
