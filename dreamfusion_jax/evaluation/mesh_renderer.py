"""Renders textured objects on the CPU with PyVista (VTK), off screen.

The camera is an exact pinhole: a point p appears at image coordinates (in image widths,
center 0, x right, y up) focal * (r . q, u . q) / -(b . q) with q = p - position and
r, u, b the columns of `rotation` (right, up, backward).
"""

import dataclasses
import os
import sys
from typing import Any, cast

import numpy as np

if sys.platform == "linux" and "DISPLAY" not in os.environ:
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
import pyvista
import vtk
from jaxtyping import Float, UInt8

from dreamfusion_jax.evaluation.textured_mesh import Object3D, Part


class Renderer:
    """One off-screen window, used again for many objects and views.

    Args:
      size: width and height of the images in pixels.
      supersampling: samples per pixel and axis, averaged by a box filter.
    """

    def __init__(self, size: int = 64, supersampling: int = 4):
        self._size, self._factor = size, supersampling
        edge = size * supersampling
        plotter = pyvista.Plotter(
            off_screen=True, window_size=[edge, edge], lighting=None, border=False
        )
        # Of any type: the stubs take VTK's window for None, and decorated methods for functions.
        self._plotter = cast(Any, plotter)
        self._window = cast(Any, plotter.render_window)
        self._window.SetMultiSamples(0)  # supersampling replaces it, on a CPU far cheaper
        self._window.SetAlphaBitPlanes(1)
        self._plotter.set_background("black")
        self._plotter.renderer.SetBackgroundAlpha(0.0)
        self._light = pyvista.Light(light_type="scene light", positional=False)
        self._plotter.add_light(self._light)
        self._actors: list = []

    def show(self, obj: Object3D, *, textureless: bool = False) -> None:
        """Replace the object in the window; `textureless` makes it white, holes stay holes."""
        for actor in self._actors:
            self._plotter.renderer.RemoveActor(actor)
        self._actors = [_actor(_white(part) if textureless else part) for part in obj.parts]
        for actor in self._actors:
            self._plotter.renderer.AddActor(actor)

    def render(
        self,
        position: Float[np.ndarray, "3"],
        rotation: Float[np.ndarray, "3 3"],
        focal: float,
        *,
        light: Float[np.ndarray, "3"] | None = None,
        ambient: float = 0.6,
        diffuse: float = 0.4,
    ) -> UInt8[np.ndarray, "size size 4"]:
        """Return one view with straight (not premultiplied) alpha.

        Args:
          position: of the camera, world coordinates.
          rotation: right, up and backward directions as columns.
          focal: focal length in image widths.
          light: where parallel light comes from, towards the origin; None is the camera.
          ambient: share of the albedo that is always seen.
          diffuse: weight of max(0, n . l), l the direction to the light.
        """
        camera = self._plotter.camera
        camera.position = tuple(map(float, position))
        camera.focal_point = tuple(map(float, position - rotation[:, 2]))
        camera.up = tuple(map(float, rotation[:, 1]))
        camera.view_angle = float(np.degrees(2 * np.arctan(0.5 / focal)))
        self._light.position = tuple(map(float, position if light is None else light))
        self._light.focal_point = (0.0, 0.0, 0.0)
        for actor in self._actors:
            actor.prop.ambient, actor.prop.diffuse = ambient, diffuse
        self._plotter.reset_camera_clipping_range()
        self._window.Render()  # without it the pixels are those of the view before
        return self._shrink(self._pixels())

    def close(self) -> None:
        """Free the window."""
        self._plotter.close()

    def _pixels(self) -> UInt8[np.ndarray, "edge edge 4"]:
        edge, pixels = self._size * self._factor, vtk.vtkUnsignedCharArray()
        self._window.GetRGBACharPixelData(0, 0, edge - 1, edge - 1, 0, pixels)
        return pyvista.convert_array(pixels).reshape(edge, edge, 4)[::-1]

    def _shrink(self, shot: np.ndarray) -> UInt8[np.ndarray, "size size 4"]:
        n, f = self._size, self._factor
        mean = shot.astype(np.float32).reshape(n, f, n, f, 4).mean((1, 3))
        alpha = mean[..., 3:]
        rgb = np.where(alpha > 0, mean[..., :3] * 255 / np.maximum(alpha, 1e-6), 0)
        return np.clip(np.concatenate([rgb, alpha], -1) + 0.5, 0, 255).astype(np.uint8)


def look_at_origin(
    azimuth: float, elevation: float, distance: float
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
    """Return the position and rotation of a camera that looks at the origin with z up (radians)."""
    back = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    return distance * back, np.stack([right, np.cross(back, right), back], -1)


def _white(part: Part) -> Part:
    texture = part.texture
    if texture is not None:
        holes = texture.shape[-1] == 4
        texture = np.where(np.arange(4) < 3, 255, texture).astype(np.uint8) if holes else None
    return dataclasses.replace(part, color=(1.0, 1.0, 1.0), texture=texture)


def _actor(part: Part) -> pyvista.Actor:
    faces = np.column_stack([np.full(len(part.faces), 3), part.faces]).ravel()
    mesh = pyvista.PolyData(part.vertices, faces)
    mesh.GetPointData().SetNormals(pyvista.convert_array(part.normals, name="normals"))
    actor = pyvista.Actor(mapper=pyvista.DataSetMapper(mesh))
    actor.mapper.SetScalarVisibility(False)
    actor.prop.color = part.color
    actor.ForceOpaqueOn()
    actor.prop.specular = 0.0
    actor.prop.interpolation = "Phong"
    if part.texture is not None:
        mesh.active_texture_coordinates = cast(np.ndarray, part.uv)
        texture = pyvista.Texture(part.texture)
        texture.repeat, texture.interpolate, texture.mipmap = True, True, True
        texture.SetMaximumAnisotropicFiltering(1.0)  # llvmpipe may loop for ever in it
        texture.SetBlendingMode(vtk.vtkTexture.VTK_TEXTURE_BLENDING_MODE_MODULATE)
        actor.texture = texture
    return actor
