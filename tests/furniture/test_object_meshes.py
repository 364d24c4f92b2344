"""The shipped meshes: what is stored, and that they look like the true objects."""

import numpy as np
import pytest

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.photographs import Look, photograph
from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part
from dreamfusion_jax.furniture.build_object_meshes import simplified, write
from dreamfusion_jax.furniture.chosen_objects import CHOICES
from dreamfusion_jax.furniture.exact_prior import FurnitureObjects
from dreamfusion_jax.furniture.object_meshes import OBJECT_MESHES, load_object_mesh
from dreamfusion_jax.furniture.object_pictures import light_positions, object_pictures
from dreamfusion_jax.furniture.object_views import load_ground_truth, load_object_views
from dreamfusion_jax.scene.cameras import orbit_camera


def over_gray(rgba):
    rgba = rgba.astype(np.float32) / 255
    return rgba[..., :3] * rgba[..., 3:] + 0.5 * (1 - rgba[..., 3:])


def sphere(count=120, texture=None):
    """A closed sphere of radius 0.5 without a seam, whose texture coordinates are x and y."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, count), np.arange(count) * 2 * np.pi / count)
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    row, column = np.meshgrid(np.arange(count), np.arange(count - 1), indexing="ij")
    a, b = row * count + column, (row + 1) % count * count + column
    faces = np.concatenate([np.stack([a, a + 1, b + 1], -1), np.stack([a, b + 1, b], -1)])
    unit = points.reshape(-1, 3).round(6).astype(np.float32)
    return Part(
        vertices=0.5 * unit,
        faces=faces.reshape(-1, 3),
        normals=unit,
        uv=None if texture is None else 0.5 * unit[:, :2] + 0.5,
        texture=texture,
        color=(0.2, 0.4, 0.8),
    )


def test_every_noun_has_a_small_file():
    files = {path.name: path.stat().st_size for path in OBJECT_MESHES.iterdir()}
    assert set(files) == {f"{choice.slug}.npz" for choice in CHOICES}
    assert sum(files.values()) <= 12e6 and max(files.values()) < 1.2e6


@pytest.mark.parametrize("noun", ["motorbike", "birthday cake", "pine tree", "bathtub"])
def test_looks_as_another_renderer_shows_the_whole_object(noun):
    truth = load_ground_truth(noun)
    views = [0, 5, 12]
    cameras = orbit_camera(
        truth.azimuth[views], truth.elevation[views], truth.distance, truth.focal
    )
    light = {"right": truth.light.right, "up": truth.light.up}
    slug = next(choice.slug for choice in CHOICES if choice.noun == noun)
    look = Look(truth.light.ambient, truth.light.diffuse)
    lights = light_positions(cameras, light)
    (shown,) = photograph(load_object_mesh(slug), cameras, lights, 128, (look,))
    expected = truth.rgba[views]
    assert -10 * np.log10(np.mean((over_gray(shown) - over_gray(expected)) ** 2)) > 33
    own, other = shown[..., 3] > 127, expected[..., 3] > 127
    assert (own & other).sum() / (own | other).sum() > 0.99


def test_what_is_written_is_read(tmp_path):
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[..., 0] = np.linspace(0, 255, 64)
    parts = sphere(12, texture), sphere(10)
    write(tmp_path / "ball.npz", Object3D(parts))
    found = load_object_mesh("ball", tmp_path).parts
    assert len(found) == 2 and found[1].texture is None
    for part, own in zip(parts, found, strict=True):
        kept = with_area(part)
        np.testing.assert_allclose(own.vertices[own.faces], part.vertices[kept], atol=1e-5)
        cosine = np.sum(part.normals[kept] * own.normals[own.faces], -1)
        assert cosine.min() > 0.999
        np.testing.assert_allclose(own.color, part.color, atol=1 / 255)
    own, kept = found[0].uv[found[0].faces], parts[0].uv[with_area(parts[0])]
    np.testing.assert_allclose(own, kept, atol=1e-3)
    assert np.abs(found[0].texture.astype(int) - texture).mean() < 4


def with_area(part):
    a = part.vertices[part.faces]
    return part.faces[(a != np.roll(a, 1, axis=1)).any(-1).all(1)]


def test_damaged_or_missing_files_are_said(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 not an archive")
    np.savez(tmp_path / "b.npz", places=np.zeros((2, 3, 4), np.uint8))
    for name in "abc":
        with pytest.raises(UserError, match=rf"{name}\.npz is missing or damaged"):
            load_object_mesh(name, tmp_path)


def test_fewer_triangles_are_the_same_surface():
    """Of a sphere: radius, outward normals, and texture coordinates that are x and y."""
    texture = np.zeros((4, 4, 3), np.uint8)
    texture[:, 2:] = 255
    (few,) = simplified(Object3D((sphere(texture=texture),)), 2000).parts
    assert len(few.faces) <= 2000
    np.testing.assert_allclose(np.linalg.norm(few.vertices, axis=1), 0.5, atol=0.01)
    outwards = few.vertices / np.linalg.norm(few.vertices, axis=1, keepdims=True)
    assert np.median(np.sum(outwards * few.normals, 1)) > 0.999
    np.testing.assert_allclose(few.uv, outwards[:, :2] * 0.5 + 0.5, atol=0.05)


def test_leaves_do_not_vanish():
    """Of a thousand small apart triangles none can be left out without a loss of area."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.4, 0.4, (1000, 1, 3)) + rng.normal(0, 0.01, (1000, 3, 3))
    normals = np.tile(np.array([0, 0, 1], np.float32), (3000, 1))
    vertices, faces = corners.reshape(-1, 3).astype(np.float32), np.arange(3000).reshape(-1, 3)
    part = Part(vertices, faces, normals, None, None, (1.0, 1.0, 1.0))
    (kept,) = simplified(Object3D((part,)), 500).parts
    assert area_of(kept) == pytest.approx(area_of(part), rel=0.03)


def area_of(part):
    a, b, c = (part.vertices[part.faces[:, k]] for k in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()


def test_holes_of_a_texture_become_holes_of_the_mesh():
    rows, columns = np.indices((128, 128))
    disc = np.hypot(rows - 63.5, columns - 63.5) < 40
    texture = np.full((128, 128, 4), 255, np.uint8)
    texture[..., 3] = np.where(disc, 255, 0)
    corners = [(0, -0.4, -0.4), (0, 0.4, -0.4), (0, 0.4, 0.4), (0, -0.4, 0.4)]
    part = Part(
        vertices=np.array(corners, np.float32),
        faces=np.array([(0, 1, 2), (0, 2, 3)]),
        normals=np.tile(np.array([1, 0, 0], np.float32), (4, 1)),
        uv=np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32),
        texture=texture,
        color=(1.0, 1.0, 1.0),
    )
    (cut,) = simplified(Object3D((part,))).parts
    assert area_of(cut) == pytest.approx(np.pi * (0.8 * 40 / 128) ** 2, rel=0.02)
    assert np.linalg.norm(cut.vertices[cut.faces], axis=-1).max() < 0.8 * 43 / 128


def test_pictures_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMFUSION_CACHE", str(tmp_path))
    looks = (Look(), Look(0.1, 0.9, textureless=True))
    made = object_pictures("traffic cone", 24, looks)
    assert made.shape == (2, 144, 24, 24, 4)
    (kept,) = (tmp_path / "pictures").iterdir()
    monkeypatch.setattr("dreamfusion_jax.furniture.object_pictures.photograph", None)
    np.testing.assert_array_equal(object_pictures("traffic cone", 24, looks), made)
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(TypeError):  # it would be made again
        object_pictures("traffic cone", 24, looks)


def test_the_prior_knows_white_objects_and_any_size(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMFUSION_CACHE", str(tmp_path))
    prior = FurnitureObjects(textureless=True).at(24, ["a traffic cone"])
    assert prior.params["foreground"].shape == (288, 3, 24 * 24)
    colors, white = np.split(np.asarray(prior.params["foreground"]), 2)
    opacity = 1 - np.asarray(prior.params["behind"])
    spread = np.ptp(white, axis=1)[opacity[144:] > 0.99]
    assert spread.max() < 0.02 < np.ptp(colors, axis=1).max()
    sheet = FurnitureObjects().at(16, ["a traffic cone"])
    pictures = load_object_views(nouns=["traffic cone"], size=16).rgba[0]
    np.testing.assert_allclose(
        1 - np.asarray(sheet.params["behind"]),
        pictures[..., 3].reshape(144, -1) / 255,
        atol=0.1,
    )
    encoded = prior.encode(["a traffic cone", "a traffic cone, front view"])
    rows = np.asarray(encoded.states[:, 0])
    assert rows[0].sum() == 144 and 0 < rows[1].sum() < 72
    assert not rows[:, 144:].any()  # who does not say so means no white ones
    (clay,) = prior.encode(["a traffic cone, white clay"]).states[:, 0]
    assert not clay[:144].any() and clay[144:].all()
    assert prior.unknown_words("a traffic cone, white clay") == []


def test_bad_light_is_refused():
    with pytest.raises(ValueError, match="diffuse"):
        FurnitureObjects(diffuse=-1.0)
    with pytest.raises(UserError, match="within"):
        FurnitureObjects().at(0, ["a table"])
