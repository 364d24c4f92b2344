import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")
pytest.importorskip("pyvista")

from dreamfusion_jax.errors import UserError  # noqa: E402
from dreamfusion_jax.furniture.captioned_furniture.__main__ import build  # noqa: E402
from dreamfusion_jax.furniture.captioned_furniture.random_views import (  # noqa: E402
    IN_FRAME,
    framed_cameras,
    share_in_frame,
)

pytestmark = pytest.mark.slow

CUBE = "\n".join(
    ["mtllib m.mtl", "usemtl paint"]
    + [f"v {x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    + ["f 1 2 4 3", "f 5 7 8 6", "f 1 5 6 2", "f 3 4 8 7", "f 1 3 7 5", "f 2 6 8 4"]
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Thirty painted boxes and a sheet of paper."""
    folder = tmp_path_factory.mktemp("catalogs") / "Scopia"
    lines = []
    for n in range(31):
        (folder / f"box{n}").mkdir(parents=True)
        (folder / f"box{n}" / f"box{n}.obj").write_text(CUBE)
        (folder / f"box{n}" / "m.mtl").write_text("newmtl paint\nKd 0.8 0.1 0.1\n")
        name, height = ("Crate", 60) if n < 30 else ("Paper", 0.1)
        lines += [f"name#{n}={name}", f"tags#{n}=Storage, Cupboard", f"category#{n}=Kitchen"]
        lines += [f"model#{n}=/box{n}/box{n}.obj", f"creator#{n}=Me"]
        lines += [f"width#{n}={20 + n}", f"depth#{n}=30", f"height#{n}={height}"]
    path = folder / "PluginFurnitureCatalog.properties"
    path.write_text("\n".join(lines), encoding="latin-1")
    return folder.parent


def test_build_and_read_back(catalog, tmp_path):
    path = build(str(catalog), str(tmp_path), "all", views=16, nouns=None)
    builder = tfds.builder_from_directory(path)
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    objects = counts["heldout_views"]  # one view of 16
    held_out = counts["heldout_objects"] // 16
    assert objects + held_out == 30 and held_out >= 1  # the paper is too thin
    assert counts == {
        "train": 15 * objects, "heldout_views": objects, "heldout_objects": 16 * held_out
    }  # fmt: skip
    train, unseen = (builder.as_data_source(split=s) for s in ("train", "heldout_objects"))
    names = [{row["object"] for row in split} for split in (train, unseen)]
    assert not names[0] & names[1]
    row = train[0]
    assert (row["noun"], row["synonyms"], row["color"]) == (b"crate", b"cupboard", b"red")
    assert row["image"].shape == (64, 64, 4)
    assert len({r["image"].tobytes() for r in train}) == len(train)
    check_image(row)


def check_image(row):
    """The center of the object lies where the stored camera says."""
    local = -row["position"] @ row["rotation"]
    expected = 64 * (0.5 + row["focal"] * local[:2] * [1, -1] / -local[2])
    alpha = row["image"][..., 3].astype(float)
    rows, columns = np.mgrid[:64, :64] + 0.5
    seen = np.array([(columns * alpha).sum(), (rows * alpha).sum()]) / alpha.sum()
    np.testing.assert_allclose(seen, expected, atol=4)
    assert row["distance"] == pytest.approx(np.linalg.norm(row["position"]), abs=1e-5)


def test_framed_cameras_keep_the_object_in_frame():
    points = np.random.default_rng(0).uniform(-0.29, 0.29, (200, 3))
    cameras = framed_cameras(7, points, 64)
    stacked = [np.stack([c[f] for c in cameras]) for f in ("position", "rotation", "focal")]
    assert share_in_frame(*stacked, points).min() >= IN_FRAME
    elevation = np.degrees([c["elevation"] for c in cameras])
    assert elevation.min() > -10.1 and 0.1 < np.mean(elevation > 60) < 0.45
    again = framed_cameras(7, points, 64)
    np.testing.assert_array_equal(stacked[0], np.stack([c["position"] for c in again]))


def test_unknown_noun_is_one_sentence(catalog, tmp_path):
    with pytest.raises(UserError, match="No object of the catalogs is called 'unicorn'"):
        build(str(catalog), str(tmp_path), "all", views=2, nouns="crate,unicorn")
    with pytest.raises(UserError, match="--views=1 leaves none to train on"):
        build(str(catalog), str(tmp_path), "all", views=1, nouns=None)
