import json
import struct

import numpy as np
import pytest
import trimesh

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.glb import glb_bytes, read_glb, write_glb


@pytest.fixture
def box():
    """A box whose top (world z) is red, longest along world x."""
    mesh = trimesh.creation.box(extents=(0.6, 0.2, 0.4))
    colours = np.full((len(mesh.vertices), 4), (20, 40, 60, 255), np.uint8)
    colours[mesh.vertices[:, 2] > 0] = (200, 10, 10, 255)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)


def _header(data: bytes) -> dict:
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length])


def test_file_stands_upright_and_faces_the_viewer(box, tmp_path):
    write_glb(box, tmp_path / "box.glb")
    (loaded,) = trimesh.load(tmp_path / "box.glb").geometry.values()
    # glTF: x right (world y), y up (world z), front +z (world x).
    np.testing.assert_allclose(loaded.extents, [0.2, 0.4, 0.6], atol=1e-6)
    red = loaded.visual.vertex_attributes["color"][:, 0] > 30000
    np.testing.assert_array_equal(red, loaded.vertices[:, 1] > 0)
    assert loaded.volume > 0


def test_header_holds_linear_colours_normals_and_a_rough_material(box):
    header = _header(glb_bytes(box))
    (primitive,) = header["meshes"][0]["primitives"]
    colour = header["accessors"][primitive["attributes"]["COLOR_0"]]
    assert colour["componentType"] == 5123 and colour["normalized"] and colour["type"] == "VEC4"
    assert "NORMAL" in primitive["attributes"]
    assert not [name for name in primitive["attributes"] if name.startswith("_")]
    shine = header["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert shine["metallicFactor"] == 0 and shine["roughnessFactor"] == 1
    # 200/255 in sRGB is 0.578 in linear light.
    assert max(colour["max"]) == 65535
    assert colour["max"][0] / 65535 == pytest.approx(0.5776, abs=1e-3)


def test_reading_back_gives_the_same_mesh(box, tmp_path):
    write_glb(box, tmp_path / "box.glb")
    loaded = read_glb(tmp_path / "box.glb")
    np.testing.assert_allclose(loaded.vertices, box.vertices, atol=1e-6)
    np.testing.assert_array_equal(loaded.visual.vertex_colors, box.visual.vertex_colors)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "mesh.glb").write_bytes(b"glTF and nothing more")
    with pytest.raises(UserError, match="mesh.glb"):
        read_glb(tmp_path / "mesh.glb")
