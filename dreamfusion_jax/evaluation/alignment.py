"""The rotation about the vertical axis and the scale that bring a result onto the truth.

A text prompt fixes neither. Every rotation of a 15 degree raster is tried first, with zoomed copies
of one set of small renders. The best few of them, and the result as it stands, are compared with
views from all heights, and from the best of these the search goes on by smaller and smaller steps.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import ndimage

from dreamfusion_jax.export.view_renderer import Ready, render_views
from dreamfusion_jax.scene.base import Scene
from dreamfusion_jax.scene.cameras import look_at, spherical_to_cartesian
from dreamfusion_jax.scene.lights import point_light
from dreamfusion_jax.types import Camera, CameraLight, Light

_ROTATIONS = 24
_ZOOMS = (0.8, 0.9, 1.0, 1.1, 1.25)  # around the scale that makes the areas equal
_SCALE_RANGE = (0.4, 2.5)
_CANDIDATES = 3
_HALVINGS = 4
_FAR = 100.0  # times the camera's distance: its rays are parallel


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Turned by `azimuth` (radians) about z and grown by `scale`, the result fits the truth."""

    azimuth: float
    scale: float


@dataclasses.dataclass(frozen=True)
class Views:
    """Pictures of an object, premultiplied RGBA in [0, 1], and where they are taken from.

    Angles in radians; the cameras look at the origin.
    """

    rgba: Float[np.ndarray, "views size size 4"]
    azimuth: Float[np.ndarray, "views"]
    elevation: Float[np.ndarray, "views"]
    distance: Float[np.ndarray, "views"]
    focal: Float[np.ndarray, "views"]

    def take(self, index: np.ndarray | slice) -> "Views":
        """Return some of the views."""
        return Views(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))

    def shrunk(self, size: int) -> "Views":
        """Return the same views with fewer pixels (averages of blocks)."""
        block = self.rgba.shape[1] // size
        small = self.rgba.reshape(len(self.rgba), size, block, size, block, 4).mean((2, 4))
        return dataclasses.replace(self, rgba=small)


def render_aligned(
    scene: Scene,
    params: dict,
    prepared: Ready,
    views: Views,
    alignment: Alignment,
    light: CameraLight | None = None,
) -> Float[np.ndarray, "views size size 4"]:
    """Return the result as the cameras of `views` see it after the alignment, premultiplied.

    The cameras move the other way instead: turned back, and nearer by the scale. Without a `light`
    the albedo is shown.
    """
    cameras = _cameras(
        views.azimuth - alignment.azimuth,
        views.elevation,
        views.distance / alignment.scale,
        views.focal,
    )
    size = views.rgba.shape[1]
    lit = light is not None
    lights = None if light is None else _far_lights(cameras, alignment.scale, light)
    out = render_views(scene, params, cameras, size, prepared=prepared, lights=lights, normals=lit)
    return np.concatenate([out.rgb, out.opacity[..., None]], axis=-1)


def _far_lights(cameras: Camera, scale: float, light: CameraLight) -> Light:
    """Return parallel light from beside each camera, as the true pictures have it."""
    beside = jnp.array([light.right, light.up, 0.0])
    towards = cameras.position * scale + cameras.rotation @ beside
    return point_light(_FAR * towards, ambient=light.ambient, diffuse=light.diffuse)


@jax.jit
def _cameras(azimuth: Array, elevation: Array, distance: Array, focal: Array) -> Camera:
    azimuth, elevation, distance, focal = (
        jnp.asarray(x, jnp.float32) for x in (azimuth, elevation, distance, focal)
    )
    position = spherical_to_cartesian(azimuth, elevation, distance)
    up = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), position.shape)
    rotation = look_at(position, jnp.zeros_like(position), up)
    return Camera(position, rotation, focal, azimuth, elevation)


def agreement(
    a: Float[np.ndarray, "*views size size 4"], b: Float[np.ndarray, "*views size size 4"]
) -> float:
    """Return what the search maximizes: IoU of the soft silhouettes less the error of the colors.

    The silhouette decides; the color tells the front from the back where the
    silhouette cannot. Means over all views.
    """
    inter = np.minimum(a[..., 3], b[..., 3]).sum((-2, -1))
    union = np.maximum(a[..., 3], b[..., 3]).sum((-2, -1))
    on_white = (a[..., :3] - a[..., 3:]) - (b[..., :3] - b[..., 3:])
    rmse = np.sqrt((on_white**2).mean((-3, -2, -1)))
    return float(np.mean(inter / np.maximum(union, 1e-6) - rmse))


def align(
    scene: Scene, params: dict, prepared: Ready, ground_truth: Views, size: int = 32
) -> Alignment:
    """Find the alignment that maximizes the agreement with the true views.

    Args:
      scene: modules and sampling numbers.
      params: the scene's parameters.
      prepared: the scene, of `prepare_views`.
      ground_truth: views of the true object.
      size: of the raster's pictures, of the views of the lowest elevation; divides that of the
        ground truth.
    """
    lowest = ground_truth.take(
        np.isclose(ground_truth.elevation, ground_truth.elevation.min(), atol=1e-3)
    )
    lowest = lowest.shrunk(size)
    # Not shrunk: renders are no averages of blocks, and at 32 pixels that outweighs small turns.
    some = ground_truth.take(slice(None, None, 2))  # half of them tell small steps apart as well

    def score(alignment: Alignment) -> float:
        rendered = render_aligned(scene, params, prepared, some, alignment)
        return agreement(rendered, some.rgba)

    start = [Alignment(0.0, 1.0), *_raster(scene, params, prepared, lowest)]
    best = max(((score(a), a) for a in start), key=lambda pair: pair[0])
    angle, factor = math.pi / _ROTATIONS, 1.1
    for _ in range(_HALVINGS):
        best = _climb(score, best, angle, factor)
        angle, factor = angle / 2, math.sqrt(factor)
    return best[1]


def _raster(scene: Scene, params: dict, prepared: Ready, views: Views) -> list[Alignment]:
    """Return the best few of all rotations and zooms, no two of them neighbors in rotation."""
    rotations = np.arange(_ROTATIONS) * 2 * math.pi / _ROTATIONS
    wanted = np.mod(views.azimuth[None] - rotations[:, None], 2 * math.pi)
    unique, index = np.unique(np.round(wanted, 4) % round(2 * math.pi, 4), return_inverse=True)
    index = index.reshape(wanted.shape)
    first = views.take(np.zeros(len(unique), int))
    seen = dataclasses.replace(first, azimuth=unique)
    images = render_aligned(scene, params, prepared, seen, Alignment(0.0, 1.0))
    areas = views.rgba[..., 3].mean(), images[..., 3].mean()
    scale = math.sqrt(areas[0] / max(areas[1], 1e-6))
    scores = []
    for zoom in _ZOOMS:
        zoomed = _zoom(images, scale * zoom)
        scores.append([agreement(zoomed[row], views.rgba) for row in index])
    all_scores = np.array(scores)
    best_zoom = all_scores.argmax(0)
    by_rotation = all_scores.max(0)
    chosen: list[int] = []
    for k in np.argsort(-by_rotation):
        if all(min((k - c) % _ROTATIONS, (c - k) % _ROTATIONS) > 1 for c in chosen):
            chosen.append(int(k))
    return [
        Alignment(float(rotations[k]), _bounded(scale * _ZOOMS[best_zoom[k]]))
        for k in chosen[:_CANDIDATES]
    ]


def _climb(score, best: tuple[float, Alignment], angle: float, factor: float):
    """Take the best of the neighbors at this step, in rotation, then in scale."""
    for turn, grow in ((angle, 1.0), (-angle, 1.0), (0.0, factor), (0.0, 1 / factor)):
        here = best[1]
        trial = Alignment(here.azimuth + turn, _bounded(here.scale * grow))
        best = max(best, (score(trial), trial), key=lambda pair: pair[0])
    return best


def _bounded(scale: float) -> float:
    return float(np.clip(scale, *_SCALE_RANGE))


def _zoom(
    images: Float[np.ndarray, "views size size 4"], factor: float
) -> Float[np.ndarray, "views size size 4"]:
    """Return pictures enlarged about their center; near enough to a nearer camera to choose by."""
    size = images.shape[1]
    center = (size - 1) / 2
    at = center + (np.arange(size) - center) / factor
    interpolate = functools.partial(ndimage.map_coordinates, order=1, cval=0.0)
    rows, columns = np.meshgrid(at, at, indexing="ij")
    zoomed = [[interpolate(p[..., c], (rows, columns)) for c in range(4)] for p in images]
    return np.moveaxis(np.array(zoomed), 1, -1)
