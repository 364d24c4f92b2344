"""Random views of one object for the data set: cameras like the paper's, soft light."""

import dataclasses
import zlib
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, Float32, UInt8

from dreamfusion_jax.evaluation.mesh_renderer import Renderer
from dreamfusion_jax.evaluation.textured_mesh import Object3D
from dreamfusion_jax.furniture.objects import surface_points
from dreamfusion_jax.scene.cameras import CameraDistribution, sample_camera

IN_FRAME = 0.9  # share of the object's surface that a view must have inside its frame
THINNEST = 0.02  # flatter objects (prints, plugs) have no side views worth learning


@dataclasses.dataclass(frozen=True)
class View:
    """One picture (straight alpha) and how it was taken."""

    rgba: UInt8[np.ndarray, "size size 4"]
    position: Float32[np.ndarray, "3"]
    rotation: Float32[np.ndarray, "3 3"]
    focal: float
    azimuth: float
    elevation: float
    light_position: Float32[np.ndarray, "3"]
    ambient: float
    diffuse: float


def usable(obj: Object3D) -> bool:
    """Return whether an object is thick enough in every direction."""
    points = surface_points(obj, 2048)
    return bool(np.ptp(points, axis=0).min() >= THINNEST)


def render_views(
    renderer: Renderer, obj: Object3D, name: str, count: int, keep: Callable[[int], bool]
) -> list[tuple[int, View]]:
    """Return those of an object's `count` views whose index `keep` accepts, with their indices.

    View i of an object called `name` is the same at every call.
    """
    seed = zlib.crc32(name.encode())
    renderer.show(obj)
    cameras = framed_cameras(seed, surface_points(obj, 512), count)
    return [
        (i, _view(renderer, camera, np.random.default_rng((seed, i))))
        for i, camera in enumerate(cameras)
        if keep(i)
    ]


def framed_cameras(seed: int, points: Float[np.ndarray, "points 3"], count: int) -> list[dict]:
    """Return the first `count` of the paper's random cameras that have the object in their frame.

    The paper's look-at noise and focal lengths cut many objects off; a picture of half an
    object teaches its caption badly.
    """
    kept: list[dict] = []
    for chunk in range(20):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed % 2**31), chunk), 2 * count)
        drawn = jax.device_get(_sample_cameras(keys))
        for i in np.flatnonzero(
            share_in_frame(drawn.position, drawn.rotation, drawn.focal, points) >= IN_FRAME
        ):
            kept.append({f: np.asarray(getattr(drawn, f)[i]) for f in _CAMERA_FIELDS})
        if len(kept) >= count:
            return kept[:count]
    raise ValueError(f"only {len(kept)} of {count} cameras have the object in their frame")


_CAMERA_FIELDS = ("position", "rotation", "focal", "azimuth", "elevation")
_sample_cameras = jax.jit(jax.vmap(lambda key: sample_camera(key, CameraDistribution())))


def share_in_frame(
    position: Float[np.ndarray, "n 3"],
    rotation: Float[np.ndarray, "n 3 3"],
    focal: Float[np.ndarray, "n"],
    points: Float[np.ndarray, "points 3"],
) -> Float[np.ndarray, "n"]:
    """Return the share of the points that each camera sees inside its square image."""
    local = np.einsum("npc,ncd->npd", points[None] - position[:, None], rotation)
    depth = -local[..., 2]
    edge = np.abs(local[..., :2]).max(-1) * focal[:, None]
    return np.mean((depth > 0) & (edge < 0.5 * depth), axis=1)


def _view(renderer: Renderer, camera: dict, rng: np.random.Generator) -> View:
    direction = camera["position"] + rng.normal(size=3)  # as the paper draws its lights
    light = direction / np.linalg.norm(direction) * rng.uniform(0.8, 1.5)
    ambient = rng.uniform(0.55, 0.85)  # far more than the paper's 0.1: colors stay true
    diffuse = 1.1 - ambient
    rgba = renderer.render(
        camera["position"],
        camera["rotation"],
        float(camera["focal"]),
        light=light,
        ambient=ambient,
        diffuse=diffuse,
    )
    return View(
        rgba=rgba,
        position=camera["position"],
        rotation=camera["rotation"],
        focal=float(camera["focal"]),
        azimuth=float(camera["azimuth"]),
        elevation=float(camera["elevation"]),
        light_position=light.astype(np.float32),
        ambient=float(ambient),
        diffuse=float(diffuse),
    )
