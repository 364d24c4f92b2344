import io
import json
import shutil
import struct
import subprocess

import numpy as np
import PIL.Image
import pytest
import trimesh

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.export.baking import with_texture
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.export.mesh_files import glb_bytes, read_glb, size_in_file, write_mesh


@pytest.fixture
def box():
    """A box, longest along world x, whose texture is red on the upper half of v."""
    mesh = trimesh.creation.box(extents=(0.6, 0.2, 0.4))
    pixels = np.full((8, 8, 3), (20, 40, 60), np.uint8)
    pixels[:4] = (200, 10, 10)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=PIL.Image.fromarray(pixels), metallicFactor=0.0, roughnessFactor=1.0
    )
    uv = np.stack([mesh.vertices[:, 0] + 0.5, np.where(mesh.vertices[:, 2] > 0, 0.9, 0.1)], 1)
    visual = trimesh.visual.TextureVisuals(uv, material=material)
    normals = mesh.vertex_normals
    return trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_normals=normals, visual=visual, process=False
    )


def header(data: bytes) -> dict:
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length])


def colors(mesh):
    """Of each vertex, as a viewer finds it: the texture's row 0 is at v = 1."""
    material = mesh.visual.material
    image = getattr(material, "baseColorTexture", None) or material.image
    pixels = np.asarray(image.convert("RGB"))
    row = np.clip(((1 - mesh.visual.uv[:, 1]) * len(pixels)).astype(int), 0, len(pixels) - 1)
    return pixels[row, 0]


def test_sizes_are_said_in_the_unit_of_the_file(box, tmp_path):
    assert size_in_file(box, "a.glb") == "0.2 x 0.6 x 0.4 meters (width, depth, height)"
    assert size_in_file(box, "a.STL", 60.0) == "20 x 60 x 40 mm (width, depth, height)"
    assert size_in_file(box, "a.ply") == "0.2 x 0.6 x 0.4 (width, depth, height)"
    write_mesh(box, tmp_path / "a.stl", millimeters=60.0)
    np.testing.assert_allclose(trimesh.load(tmp_path / "a.stl").extents, (60, 20, 40), atol=1e-3)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_textured_files_stand_upright_and_face_the_viewer(box, tmp_path, suffix):
    write_mesh(box, tmp_path / f"box{suffix}")
    loaded = trimesh.load(tmp_path / f"box{suffix}", force="mesh", process=False)
    # x right (world y), y up (world z), front +z (world x).
    np.testing.assert_allclose(loaded.extents, [0.2, 0.4, 0.6], atol=1e-6)
    red = colors(loaded)[:, 0] > 100
    np.testing.assert_array_equal(red, loaded.vertices[:, 1] > 0.2)
    assert loaded.volume > 0
    assert loaded.bounds[0, 1] == pytest.approx(0, abs=1e-6)  # on the floor
    write_mesh(box, tmp_path / f"box{suffix.upper()}", centered=True)
    centered = trimesh.load(tmp_path / f"box{suffix.upper()}", force="mesh", process=False)
    np.testing.assert_allclose(centered.bounds[:, 1], [-0.2, 0.2], atol=1e-6)


def test_obj_names_its_material_and_texture_after_itself(box, tmp_path):
    write_mesh(box, tmp_path / "box.obj")
    assert {path.name for path in tmp_path.iterdir()} == {"box.obj", "box.mtl", "box.png"}
    assert "mtllib box.mtl" in (tmp_path / "box.obj").read_text()
    assert "map_Kd box.png" in (tmp_path / "box.mtl").read_text()


def test_glb_has_normals_a_texture_and_a_rough_material(box):
    head = header(glb_bytes(box))
    (primitive,) = head["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    shine = head["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert shine["metallicFactor"] == 0 and shine["roughnessFactor"] == 1
    assert shine["baseColorTexture"]["index"] == 0 and head["images"][0]["mimeType"] == "image/png"


@pytest.mark.slow
def test_glb_of_a_field_keeps_khronos_rules(ball, params, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("the validator runs on Node.js")
    package = "gltf-validator@2.0.0-dev.3.10"
    install = ["npm", "install", "--silent", "--prefix", str(tmp_path), package]
    try:
        subprocess.run(install, capture_output=True, timeout=60, check=True)
    except subprocess.SubprocessError:
        pytest.skip("the validator cannot be fetched")
    mesh = with_texture(ball, params, extract_mesh(ball, params, 32, 800), 64)
    write_mesh(mesh, tmp_path / "ball.glb")
    script = (
        "const fs = require('fs'); require('gltf-validator')"
        ".validateBytes(new Uint8Array(fs.readFileSync('ball.glb')))"
        ".then(report => console.log(JSON.stringify(report.issues)))"
    )
    run = subprocess.run(["node", "-e", script], cwd=tmp_path, capture_output=True, check=True)
    issues = json.loads(run.stdout)
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"]


def test_reading_back_gives_the_same_mesh(box, tmp_path):
    write_mesh(box, tmp_path / "box.glb")
    loaded = read_glb(tmp_path / "box.glb")
    np.testing.assert_allclose(loaded.vertices, box.vertices, atol=1e-6)
    np.testing.assert_array_equal(colors(loaded), colors(box))


def test_stl_is_closed_and_in_millimeters(box, tmp_path):
    write_mesh(box, tmp_path / "box.stl", millimeters=30)
    loaded = trimesh.load(tmp_path / "box.stl")
    np.testing.assert_allclose(loaded.extents, [30, 10, 20], rtol=1e-6)
    assert loaded.is_watertight


def test_ply_keeps_vertex_colors_and_the_world_frame(tmp_path):
    mesh = trimesh.creation.box(extents=(0.6, 0.2, 0.4))
    wanted = np.where(mesh.vertices[:, 2:] > 0, (200, 10, 10, 255), (20, 40, 60, 255))
    mesh.visual.vertex_colors = wanted.astype(np.uint8)
    write_mesh(mesh, tmp_path / "box.ply")
    loaded = trimesh.load(io.BytesIO((tmp_path / "box.ply").read_bytes()), "ply", process=False)
    np.testing.assert_allclose(loaded.extents, [0.6, 0.2, 0.4], atol=1e-6)
    np.testing.assert_array_equal(loaded.visual.vertex_colors, wanted)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "mesh.glb").write_bytes(b"glTF and nothing more")
    with pytest.raises(UserError, match="mesh.glb"):
        read_glb(tmp_path / "mesh.glb")
