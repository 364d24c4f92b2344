"""The mesh suite: does an exported mesh look like the scene that it was taken from?

The file's triangles and texture are drawn unlit, without the antialiasing that trains surfaces.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Array, Bool, Float, Int
from scipy import ndimage

from dreamfusion_jax.evaluation.geometry import psnr, silhouette_iou
from dreamfusion_jax.export.images import over
from dreamfusion_jax.export.view_renderer import render_views
from dreamfusion_jax.io import write_json
from dreamfusion_jax.scene.base import FINISHED, Scene
from dreamfusion_jax.scene.cameras import orbit_camera
from dreamfusion_jax.scene.mesh.rasterizer import interpolate, rasterize
from dreamfusion_jax.types import Camera

_AZIMUTHS, _ELEVATIONS = 8, (15.0, 30.0)
_SIZE = 128
_LOOKS = 4  # into a pixel, in each direction


@dataclasses.dataclass(frozen=True)
class MeshAgreement:
    """Mean PSNR (dB) of the albedo over white, and silhouette IoU, over views of the scene.

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
    """Return PSNR and IoU of renders of a textured mesh against those of its scene.

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
    """Return the mesh over white, and its coverage: means of several looks into each pixel."""
    visual: Any = mesh.visual
    picture = np.asarray(visual.material.baseColorTexture.convert("RGB"), np.float32) / 255
    vertices, faces = (jnp.asarray(x) for x in (np.float32(mesh.vertices), np.int32(mesh.faces)))
    uv = jnp.asarray(np.float32(visual.uv))
    shots = []
    for i in range(cameras.focal.shape[0]):
        camera = jax.tree.map(lambda x, i=i: x[i : i + 1], cameras)
        hit, places = (np.asarray(x[0]) for x in _uv_of_pixels(vertices, faces, uv, camera))
        height, width = picture.shape[:2]
        row, column = (1 - places[..., 1]) * height - 0.5, places[..., 0] * width - 0.5
        colors = [
            ndimage.map_coordinates(channel, (row, column), order=1, mode="nearest")
            for channel in np.moveaxis(picture, -1, 0)
        ]
        alpha = hit[..., None].astype(np.float32)
        image = np.concatenate([np.stack(colors, -1) * alpha + 1 - alpha, alpha], -1)
        shots.append(image.reshape(_SIZE, _LOOKS, _SIZE, _LOOKS, 4).mean((1, 3)))
    return np.stack(shots)


@jax.jit
def _uv_of_pixels(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    uv: Float[Array, "vertices 2"],
    camera: Camera,
) -> tuple[Bool[Array, "views s s"], Float[Array, "views s s 2"]]:
    found = rasterize(vertices, faces, camera, _LOOKS * _SIZE)
    return found.hit, interpolate(found, faces, uv)


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
