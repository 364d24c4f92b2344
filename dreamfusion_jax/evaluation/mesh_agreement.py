"""The mesh suite: does an exported mesh look like the field that it was taken from?

Needs PyVista (the `[data]` extra), which draws the file's triangles and texture, unlit.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Float

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.evaluation.geometry import psnr, silhouette_iou
from dreamfusion_jax.export.images import over
from dreamfusion_jax.export.view_renderer import render_views
from dreamfusion_jax.io import write_json
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.types import Camera

_AZIMUTHS, _ELEVATIONS = 8, (15.0, 30.0)
_SIZE = 128


@dataclasses.dataclass(frozen=True)
class MeshAgreement:
    """Mean PSNR (dB) of the albedo over white, and silhouette IoU, over views of the field.

    `watertight`: every edge belongs to two triangles, once the texture's seams are closed.
    """

    workdir: str
    psnr: float
    iou: float
    triangles: int
    watertight: bool


def compare_mesh(
    scene: Scene,
    params: dict,
    mesh: trimesh.Trimesh,
    distance: float,
    focal: float,
    *,
    step: int = FINISHED,
) -> tuple[float, float]:
    """Return PSNR and IoU of renders of a textured mesh against those of its field.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      mesh: in the world frame.
      distance: of the cameras from the origin.
      focal: their focal length in image widths.
      step: of the run, for what is annealed.
    """
    views = [
        orbit_camera(jnp.arange(_AZIMUTHS) * 2 * math.pi / _AZIMUTHS, e, distance, focal)
        for e in np.radians(_ELEVATIONS)
    ]
    fields, meshes = [], []
    for cameras in views:
        out = render_views(scene, params, cameras, _SIZE, step=step, normals=False)
        fields.append(np.concatenate([over(out.albedo, out.opacity), out.opacity[..., None]], -1))
        meshes.append(_draw(mesh, cameras))
    field, drawn = np.concatenate(fields), np.concatenate(meshes)
    iou = silhouette_iou(field[..., 3] > 0.5, drawn[..., 3] > 0.5)
    return float(psnr(field[..., :3], drawn[..., :3]).mean()), float(iou.mean())


def _draw(mesh: trimesh.Trimesh, cameras: Camera) -> Float[np.ndarray, "views size size 4"]:
    """Return the mesh over white, and its coverage."""
    try:
        from dreamfusion_jax.evaluation.mesh_renderer import Renderer
    except ImportError as error:
        raise UserError("Drawing meshes needs PyVista: pip install 'dreamfusion_jax[data]'.") from (
            error
        )
    from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part

    visual: Any = mesh.visual
    part = Part(
        np.asarray(mesh.vertices, np.float32),
        np.asarray(mesh.faces, np.int64),
        np.asarray(mesh.vertex_normals, np.float32),
        np.asarray(visual.uv, np.float32),
        np.asarray(visual.material.baseColorTexture.convert("RGB")),
        (1.0, 1.0, 1.0),
    )
    renderer = Renderer(_SIZE)
    renderer.show(Object3D((part,)))
    shots = [
        renderer.render(np.asarray(p), np.asarray(r), float(f), ambient=1.0, diffuse=0.0)
        for p, r, f in zip(cameras.position, cameras.rotation, cameras.focal, strict=True)
    ]
    renderer.close()
    rgba = np.stack(shots).astype(np.float32) / 255
    alpha = rgba[..., 3:]
    return np.concatenate([rgba[..., :3] * alpha + 1 - alpha, alpha], -1)


def is_closed(mesh: trimesh.Trimesh) -> bool:
    """Return whether a mesh is watertight where vertices of the same place are one."""
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    return bool(welded.is_watertight)


def report_meshes(
    results: Sequence[MeshAgreement], output: str | os.PathLike | None
) -> dict[str, Any]:
    """Print a table and writes one JSON file; returns what it holds."""
    print(f"{'PSNR dB':>8}{'IoU':>8}{'triangles':>11}  watertight  run")
    for row in results:
        closed = "yes" if row.watertight else "no"
        print(f"{row.psnr:8.2f}{row.iou:8.3f}{row.triangles:11,}  {closed:<10}  {row.workdir}")
    lowest = {name: min(getattr(row, name) for row in results) for name in ("psnr", "iou")}
    print(f"{lowest['psnr']:8.2f}{lowest['iou']:8.3f}{'':11}  {'':<10}  lowest")
    runs = [dataclasses.asdict(row) for row in results]
    result = {"suite": "mesh", "runs": runs, "lowest": lowest}
    if output is not None:
        write_json(output, result)
    return result
