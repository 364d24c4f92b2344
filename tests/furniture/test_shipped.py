import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture import object_views, shipped
from dreamfusion_jax.furniture.retrieval_evaluator import RetrievalEvaluator


def test_a_checkout_has_all(monkeypatch):
    monkeypatch.setenv("DREAMFUSION_ASSETS", "/no/such/folder")
    for name in ("evaluator", "ground_truth", "object_views", "unet"):
        assert shipped.asset_folder(name) == shipped.ASSETS / name


def test_a_folder_that_is_named_stands_in(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "ASSETS", tmp_path / "wheel")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "checkout" / "unet").mkdir(parents=True)
    monkeypatch.setenv("DREAMFUSION_ASSETS", "~/checkout")
    assert shipped.asset_folder("unet") == tmp_path / "checkout" / "unet"
    with pytest.raises(UserError, match=r"\(evaluator\) is missing.*it is '~/checkout'"):
        shipped.asset_folder("evaluator")


def test_without_one_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "ASSETS", tmp_path)
    monkeypatch.delenv("DREAMFUSION_ASSETS", raising=False)
    with pytest.raises(UserError, match="The true objects .* the wheel leaves it out; use a check"):
        object_views.load_ground_truth("teapot")
    with pytest.raises(UserError, match="The retrieval evaluator .* set DREAMFUSION_ASSETS"):
        RetrievalEvaluator.load()
