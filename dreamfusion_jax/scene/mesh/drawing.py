"""From a mesh to pixels: what is visible, what it looks like there, light, outlines."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from dreamfusion_jax.scene.background import Background, in_front
from dreamfusion_jax.scene.mesh.antialiasing import antialias
from dreamfusion_jax.scene.mesh.rasterizer import Fragments, dot, interpolate, rasterize
from dreamfusion_jax.scene.rays import cast_rays
from dreamfusion_jax.scene.shading import shade
from dreamfusion_jax.types import Camera, FieldOutput, Light, RenderOutput, SurfaceMesh

# Of the visible points: their places and normals, what was interpolated, and the faces -> what is
# there, with its normals.
Look = Callable[
    [
        Float[Array, "views size size 3"],
        Float[Array, "views size size 3"],
        Float[Array, "views size size more"],
        Fragments,
    ],
    FieldOutput,
]
_NO_AREA = 1e-3  # of the mean: what has less has no direction


def draw_mesh(
    mesh: SurfaceMesh,
    look: Look,
    cameras: Camera,
    lights: Light,
    size: int,
    attributes: Float[Array, "vertices more"] | None = None,
) -> RenderOutput:
    """Return views of a closed mesh over black.

    Args:
      mesh: in the world frame.
      look: says what is at the visible points.
      cameras: a batch.
      lights: one for each.
      size: pixels a side.
      attributes: of vertices, more than places and normals, for `look`.
    """
    more = jnp.zeros((len(mesh.vertices), 0)) if attributes is None else attributes
    fragments = rasterize(mesh.vertices, mesh.faces, cameras, size, cull=True)
    values = jnp.concatenate([mesh.vertices, vertex_normals(mesh), more], -1)
    found = interpolate(fragments, mesh.faces, values)
    points, normals = found[..., :3], unit(found[..., 3:6], _NO_AREA)
    field = look(points, normals, found[..., 6:], fragments)
    there = fragments.hit[..., None].astype(points.dtype)
    assert field.normals is not None  # as `look` gives them
    layers = [
        there,
        shade(field, points, lights) * there,
        field.albedo * there,
        fragments.depth[..., None],
        field.normals * there,
    ]
    blended = antialias(jnp.concatenate(layers, -1), fragments, mesh, cameras)
    channels = field.albedo.shape[-1]
    ends = [1, 1 + channels, 1 + 2 * channels, 2 + 2 * channels]
    opacity, rgb, albedo, depth, normals = jnp.split(blended, ends, axis=-1)
    return RenderOutput(
        rgb=rgb,
        albedo=albedo,
        opacity=opacity[..., 0],
        depth=depth[..., 0],
        normals=normals,
        orientation=jnp.zeros_like(opacity[..., 0]),
        surface=mesh,
    )


def over_background(
    views: RenderOutput,
    background: Background,
    params: Any,
    cameras: Camera,
    keys: Key[Array, "views"],
    radius: float,
) -> RenderOutput:
    """Return views with their backgrounds behind them; the key of a view draws its own.

    Args:
      views: over black.
      background: of the scene.
      params: the background's.
      cameras: of the views.
      keys: one for each view.
      radius: of the scene.
    """
    size = views.opacity.shape[-1]
    rays = jax.vmap(lambda camera: cast_rays(camera, size, radius))(cameras)
    own_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 2)
    behind = jax.vmap(functools.partial(background.colors, params))(rays.directions, own_keys)
    return dataclasses.replace(views, rgb=in_front(views.rgb, views.opacity, behind))


def vertex_normals(mesh: SurfaceMesh) -> Float[Array, "vertices 3"]:
    """Return the means of the normals of the faces around vertices, weighted by their areas."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    normals = jnp.cross(b - a, c - a)
    sums = jnp.zeros_like(mesh.vertices)
    for k in range(3):
        sums = sums.at[mesh.faces[:, k]].add(normals)
    return unit(sums, _NO_AREA)


def unit(vectors: Float[Array, "*batch 3"], share: float) -> Float[Array, "*batch 3"]:
    """Return vectors of nearly length 1.

    Those that are shorter than a share of what they are in the mean stay shorter: so their
    directions, which are uncertain, have no gradients without bound.
    """
    squared = dot(vectors, vectors)[..., None]
    floor = share**2 * jnp.mean(jax.lax.stop_gradient(squared)) + 1e-20
    return vectors * jax.lax.rsqrt(squared + floor)
