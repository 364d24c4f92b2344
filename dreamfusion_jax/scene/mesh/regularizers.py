"""Regularizers of a mesh: its bends, its vertices, its edges, and the distances it is made of."""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dreamfusion_jax.errors import UserError
from dreamfusion_jax.registry import register
from dreamfusion_jax.scene.mesh.drawing import unit
from dreamfusion_jax.scene.mesh.rasterizer import dot
from dreamfusion_jax.scene.regularizers import Regularizer
from dreamfusion_jax.types import RenderOutput, SurfaceMesh

_NEAR = 2.0  # cells
_SLIVER = 0.05  # of the mean area


class MeshRegularizer(Regularizer):
    """A term of the surface alone, whatever views show of it."""

    def of(self, views: RenderOutput, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the term.

        Raises:
          UserError: the scene is no mesh.
        """
        if views.surface is None:
            raise UserError(
                f"The regularizer {type(self).__name__} is one of meshes: give it a weight in a "
                'stage whose scene.name is "mesh".'
            )
        return self.of_mesh(views.surface)

    @abc.abstractmethod
    def of_mesh(self, mesh: SurfaceMesh) -> Float[Array, ""]:
        """Return the term of a mesh."""


@register("regularizer", "normal_consistency")
@dataclasses.dataclass(frozen=True)
class NormalConsistency(MeshRegularizer):
    """The mean over edges of 1 - cos of the angle between the normals of the two faces.

    Of slivers, whose normals are uncertain, these are taken shorter than 1.
    """

    def of_mesh(self, mesh: SurfaceMesh) -> Float[Array, ""]:
        """Return the mean, in [0, 2]."""
        a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
        normals = unit(jnp.cross(b - a, c - a), _SLIVER)
        first, second = (normals[jnp.maximum(mesh.edge_faces[:, k], 0)] for k in (0, 1))
        there = jnp.all(mesh.edge_faces >= 0, axis=1)
        return _mean(1 - dot(first, second), there)


@register("regularizer", "laplacian")
@dataclasses.dataclass(frozen=True)
class Laplacian(MeshRegularizer):
    """The mean squared distance of vertices from the mean of their neighbors.

    It is in squares of the mean length of an edge, so that it is the same of any size.
    """

    def of_mesh(self, mesh: SurfaceMesh) -> Float[Array, ""]:
        """Return the mean over vertices."""
        there = jnp.any(mesh.edge_faces >= 0, axis=1)
        ends = [mesh.vertices[mesh.edges[:, k]] for k in (0, 1)]
        sums, counts = jnp.zeros_like(mesh.vertices), jnp.zeros(len(mesh.vertices))
        for k in (0, 1):
            sums = sums.at[mesh.edges[:, k]].add(jnp.where(there[:, None], ends[1 - k], 0.0))
            counts = counts.at[mesh.edges[:, k]].add(there)
        offsets = sums / jnp.maximum(counts, 1)[:, None] - mesh.vertices
        length = _mean(dot(ends[1] - ends[0], ends[1] - ends[0]), there)
        return _mean(dot(offsets, offsets), counts > 0) / jnp.maximum(length, 1e-12)


@register("regularizer", "edge_length")
@dataclasses.dataclass(frozen=True)
class EdgeLength(MeshRegularizer):
    """The variance of the edges' lengths over the square of their mean: 0 if all are equal."""

    def of_mesh(self, mesh: SurfaceMesh) -> Float[Array, ""]:
        """Return the share."""
        there = jnp.any(mesh.edge_faces >= 0, axis=1)
        step = mesh.vertices[mesh.edges[:, 1]] - mesh.vertices[mesh.edges[:, 0]]
        squared = dot(step, step)
        # The root's slope is infinite at 0, as of padding.
        length = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
        mean = _mean(length, there & (squared > 0))
        return _mean((length / jnp.maximum(mean, 1e-12) - 1) ** 2, there & (squared > 0))


@register("regularizer", "eikonal")
@dataclasses.dataclass(frozen=True)
class Eikonal(Regularizer):
    """The mean of (|gradient of the distance| - 1)^2 over the cells that the surface is near."""

    def of(self, views: RenderOutput, step: Int[Array, ""]) -> Float[Array, ""]:
        """Return the mean.

        Raises:
          UserError: the scene has no distances.
        """
        if views.distance is None:
            raise UserError(
                "The regularizer Eikonal is one of distances: give it a weight in a stage whose "
                'scene.name is "mesh".'
            )
        low = views.distance[:-1, :-1, :-1]
        steps = [
            jnp.diff(views.distance, axis=axis)[
                tuple(slice(None) if i == axis else slice(0, -1) for i in range(3))
            ]
            for axis in range(3)
        ]
        squared = sum(step**2 for step in steps)
        near = (jnp.abs(low) < _NEAR) & (squared > 0)
        return _mean((jnp.sqrt(jnp.where(near, squared, 1.0)) - 1) ** 2, near)


def _mean(values: Float[Array, "*batch"], there: Bool[Array, "*batch"]) -> Float[Array, ""]:
    count = jnp.maximum(jnp.sum(there), 1)
    return jnp.sum(jnp.where(there, values, 0.0)) / count
