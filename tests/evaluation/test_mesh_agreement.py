import numpy as np
import pytest
import trimesh

from dreamfusion_jax.evaluation.mesh_agreement import (
    MeshAgreement,
    compare_mesh,
    is_closed,
    report_meshes,
)
from dreamfusion_jax.export.baking import with_texture
from dreamfusion_jax.export.mesh import extract_mesh
from dreamfusion_jax.export.mesh_files import read_glb, write_mesh


@pytest.fixture(scope="module")
def mesh(truth_scene, params):
    return with_texture(truth_scene, params, extract_mesh(truth_scene, params, 64, 4000), 256)


def test_seams_do_not_open_a_mesh_and_holes_do():
    box = trimesh.creation.box()
    torn = trimesh.Trimesh(
        box.triangles.reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False
    )
    assert not torn.is_watertight and is_closed(torn)
    hole = trimesh.Trimesh(box.vertices, box.faces[1:], process=False)
    assert not is_closed(hole)


def test_report_names_the_lowest(tmp_path, capsys):
    rows = [MeshAgreement("a", 30.0, 0.95, 100, True), MeshAgreement("b", 24.0, 0.99, 200, False)]
    result = report_meshes(rows, tmp_path / "scores.json")
    assert result["lowest"] == {"psnr": 24.0, "iou": 0.95} and (tmp_path / "scores.json").is_file()
    assert "lowest" in capsys.readouterr().out


def test_a_file_is_closed_also_where_two_sheets_touch(mesh, tmp_path):
    """Two vertices of this mesh differ by 1e-16 before it is closed: in a file they are one."""
    write_mesh(mesh, tmp_path / "mesh.glb")
    assert is_closed(mesh) and is_closed(read_glb(tmp_path / "mesh.glb"))


@pytest.mark.slow
def test_a_file_looks_like_its_field_and_not_like_another(
    truth_scene, turned_scene, params, mesh, tmp_path
):
    write_mesh(mesh, tmp_path / "mesh.glb")
    written = read_glb(tmp_path / "mesh.glb")
    psnr, iou = compare_mesh(truth_scene, params, written, 1.5, 1.2)
    assert psnr > 25 and iou > 0.95 and is_closed(written)
    other_psnr, other_iou = compare_mesh(turned_scene, params, written, 1.5, 1.2)
    assert other_psnr < psnr - 5 and other_iou < 0.8
