import jax.numpy as jnp
import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.notice import notice
from dreamfusion_jax.furniture.object_views import (
    OBJECT_VIEWS,
    SIZE,
    load_ground_truth,
    load_object_views,
    nouns,
    read_index,
)
from dreamfusion_jax.furniture.shipped import ASSETS, asset_folder
from dreamfusion_jax.furniture.splits import HELD_OUT, TUNING
from dreamfusion_jax.prompts.view_prompts import view_index

TRUTH = asset_folder("ground_truth")
BENCHMARK = "teddy bear,armchair,hamburger,laptop,teapot,motorbike,birthday cake,table".split(",")


@pytest.fixture(scope="module")
def index():
    return read_index(OBJECT_VIEWS)


def test_nouns(index):
    assert 96 <= len(nouns()) <= 128
    assert set(BENCHMARK) <= set(nouns())
    assert nouns() == tuple(choice.noun for choice in CHOICES)
    assert len({entry["object"] for entry in index["objects"]}) == len(nouns())


def test_no_name_stands_for_two_objects(index):
    """A synonym that is another object's noun would show that object under a wrong name."""
    known = set(nouns())
    names = [s for entry in index["objects"] for s in entry["synonyms"]]
    assert not known & set(names)
    doubled = {name for name in names if names.count(name) > 1}
    assert not doubled


def test_size_on_disk():
    def megabytes(folder, pattern="*"):
        return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6

    assert megabytes(OBJECT_VIEWS, "*.webp") <= 16 and megabytes(OBJECT_VIEWS, "*.json") <= 0.3
    assert megabytes(TRUTH, "*.webp") <= 4
    assert megabytes(TRUTH, "*.npz") <= 3
    # Nothing lies there that no index names.
    named = {"index.json", *(entry["file"] for entry in read_index(OBJECT_VIEWS)["objects"])}
    assert {path.name for path in OBJECT_VIEWS.iterdir()} == named
    assert {path.name for path in TRUTH.iterdir()} == named | {"points.npz"}


def test_every_noun_has_144_views_of_all_sides(index):
    for entry in index["objects"]:
        azimuth, elevation = np.array(entry["azimuth"]), np.array(entry["elevation"])
        assert azimuth.shape == elevation.shape == (144,)
        assert np.all((azimuth >= 0) & (azimuth <= 2 * np.pi + 1e-3))
        assert np.all((elevation >= np.radians(-10.01)) & (elevation <= np.radians(90.01)))
        counts = np.bincount(
            np.asarray(view_index(jnp.asarray(azimuth), jnp.asarray(elevation))), minlength=4
        )
        np.testing.assert_allclose(counts, (27, 54, 27, 36), atol=3)


def test_pictures_show_the_whole_object():
    chosen = [*BENCHMARK, "horse", "bus"]
    library = load_object_views(nouns=chosen)
    assert library.rgba.shape == (len(chosen), 144, SIZE, SIZE, 4)
    assert library.nouns == tuple(chosen) and set(library.synonyms) == set(chosen)
    assert (library.distance, library.focal) == (1.5, 1.25)
    alpha = library.rgba[..., 3]
    assert not alpha[:, :, [0, -1]].any() and not alpha[:, :, :, [0, -1]].any()
    covered = (alpha > 127).mean((2, 3))
    assert covered.min() > 0.02 and covered.mean() > 0.12
    in_between = ((alpha > 0) & (alpha < 255)).mean((2, 3))
    assert in_between.min() > 0.005  # anti-aliased in every view
    # Views differ, nouns differ.
    assert len({view.tobytes() for noun in library.rgba for view in noun}) == len(chosen) * 144


def test_the_front_is_at_azimuth_0():
    """A car is narrower from the front than from the side; a laptop's screen is dark."""
    car, laptop = load_object_views(nouns=["car"]), load_object_views(nouns=["laptop"])
    low = car.elevation[0] < np.radians(60)
    view = np.asarray(view_index(jnp.asarray(car.azimuth[0]), jnp.asarray(car.elevation[0])))
    width = (car.rgba[0, ..., 3] > 127).any(1).sum(1)
    assert width[low & (view == 1)].mean() > 1.25 * width[low & (view != 1)].mean()
    view = np.asarray(view_index(jnp.asarray(laptop.azimuth[0]), jnp.asarray(laptop.elevation[0])))
    dark = ((laptop.rgba[0, ..., 0] < 90) & (laptop.rgba[0, ..., 3] > 127)).sum((1, 2))
    assert dark[view == 0].mean() > 4 * dark[view == 2].mean()


def test_truth_agrees_with_its_surface_points():
    for noun in ("teddy bear", "motorbike", "table"):
        ground_truth = load_ground_truth(noun)
        assert ground_truth.rgba.shape == (16, SIZE, SIZE, 4) and ground_truth.points.shape == (
            4096,
            3,
        )
        low, high = ground_truth.points.min(0), ground_truth.points.max(0)
        np.testing.assert_allclose(low + high, 0, atol=0.03)
        assert 0.93 < np.linalg.norm(high - low) <= 1.001
        assert set(np.degrees(ground_truth.elevation).round().astype(int)) == {15, 30}
        assert len(set(np.degrees(ground_truth.azimuth).round(1))) == 8
        for view in range(16):
            inside = ground_truth.rgba[view, ..., 3]
            hit = [inside[y, x] for y, x in pixels(ground_truth, view)]
            assert np.mean(np.array(hit) > 0) > 0.995


def pixels(ground_truth, view):
    azimuth, elevation = float(ground_truth.azimuth[view]), float(ground_truth.elevation[view])
    back = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), 0])
    back[2] = np.sin(elevation)
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    depth = ground_truth.distance - ground_truth.points @ back
    x = 0.5 + ground_truth.focal * (ground_truth.points @ right) / depth
    y = 0.5 - ground_truth.focal * (ground_truth.points @ np.cross(back, right)) / depth
    return (SIZE * np.stack([y, x], -1)).astype(int)


def test_unseen_views_are_not_in_the_library(index):
    for entry in index["objects"]:
        ground_truth = load_ground_truth(entry["noun"])
        turn = np.subtract.outer(ground_truth.azimuth, np.array(entry["azimuth"]))
        apart = np.hypot(
            np.remainder(turn + np.pi, 2 * np.pi) - np.pi,
            np.subtract.outer(ground_truth.elevation, np.array(entry["elevation"])),
        )
        assert apart.min() > np.radians(0.1), entry["noun"]


def test_tuned_and_held_out_nouns_are_apart():
    assert not set(TUNING) & set(HELD_OUT)
    assert set(TUNING) | set(HELD_OUT) <= set(nouns())
    assert (len(set(TUNING)), len(set(HELD_OUT))) == (16, 40)


def test_every_object_is_licensed_and_named_in_notice(index):
    for entry in index["objects"]:
        assert entry["license"] in ("CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-US")
        assert entry["creator"] and entry["object"] and entry["category"]
    path = ASSETS.parents[2] / "NOTICE"
    if path.exists():  # not where the package is installed without its repository
        assert path.read_text(encoding="utf-8") == notice(index["objects"])


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="'unicorn' is not in the library"):
        load_object_views(nouns=["unicorn"])
    with pytest.raises(UserError, match="'unicorn' is not in the library"):
        load_ground_truth("unicorn")
    with pytest.raises(UserError, match="index.json is missing or damaged"):
        load_object_views(tmp_path)
    (tmp_path / "index.json").write_text('{"objects": [')
    with pytest.raises(UserError, match="index.json is missing or damaged"):
        load_object_views(tmp_path)
    entry = '{"noun": "x", "file": "x.webp"}'
    (tmp_path / "index.json").write_text(f'{{"objects": [{entry}]}}')
    (tmp_path / "x.webp").write_bytes(b"no picture")
    with pytest.raises(UserError, match="missing or damaged: install"):
        load_object_views(tmp_path)
