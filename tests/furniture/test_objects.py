import numpy as np
import pytest
from PIL import Image

from dreamfusion_jax.furniture.catalog import Entry
from dreamfusion_jax.furniture.objects import load_object, surface_points

CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
QUADS = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))


@pytest.fixture
def entry(tmp_path):
    """A box of 1x1x1 whose front (+z, quad 6) is red and textured, the rest green, glass on top."""
    lines = ["mtllib box.mtl", *(f"v {x} {y} {z}" for x, y, z in CORNERS)]
    lines += ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1", "usemtl green"]
    lines += [f"f {a} {b} {c} {d}" for a, b, c, d in QUADS[:5]]
    a, b, c, d = QUADS[5]
    lines += ["usemtl front", f"f {a}/1 {b}/2 {c}/3 {d}/4"]
    lines += ["usemtl air", "v 9 9 9", "v 9 8 9", "v 8 9 9", "f 9 10 11"]
    (tmp_path / "box.obj").write_text("\n".join(lines))
    (tmp_path / "box.mtl").write_text(
        "newmtl green\nKd 0 1 0\n\nnewmtl front\nKd 1 1 1\nmap_Kd red.png\n\n"
        "newmtl air\nKd 1 1 1\nd 0.05\n"
    )
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "red.png")
    return Entry(
        uid="test/box", name="Box", tags=(), category="", creator="", license="",
        model=tmp_path / "box.obj", rotation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        width=20.0, depth=30.0, height=60.0,
    )  # fmt: skip


def test_normalized_in_the_world_frame(entry):
    obj = load_object(entry)
    points = np.concatenate([p.vertices[np.unique(p.faces)] for p in obj.parts])
    size = np.array([30, 20, 60]) / 70  # depth along x, width along y, height along z
    np.testing.assert_allclose(points.max(0), size / 2, atol=1e-6)
    np.testing.assert_allclose(points.min(0), -size / 2, atol=1e-6)
    assert len(obj.parts) == 2  # the nearly invisible triangle far away is left out
    front = next(p for p in obj.parts if p.texture is not None)
    np.testing.assert_allclose(front.vertices[np.unique(front.faces)][:, 0], size[0] / 2, atol=1e-6)
    np.testing.assert_allclose(front.texture[0, 0], (255, 0, 0))


def test_turn_is_counter_clockwise(entry):
    front = next(p for p in load_object(entry, np.pi / 2).parts if p.texture is not None)
    used = front.vertices[np.unique(front.faces)]
    np.testing.assert_allclose(used[:, 1], 30 / 70 / 2, atol=1e-6)  # +x goes to +y


def test_surface_points_are_uniform_by_area(entry):
    points = surface_points(load_object(entry), 20_000)
    size = np.array([30, 20, 60]) / 70
    on = np.abs(np.abs(points) - size / 2) < 1e-6
    assert np.all(on.any(1))
    areas = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    np.testing.assert_allclose(on.mean(0), areas / areas.sum(), atol=0.015)
    np.testing.assert_allclose(points.mean(0), 0, atol=0.01)
