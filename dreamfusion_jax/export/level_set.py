"""The level set of a scene's density as triangles, slab by slab: memory does not grow with it."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int
from skimage import measure
from tqdm.auto import tqdm

from dreamfusion_jax.errors import NoSurface
from dreamfusion_jax.export.view_renderer import grid_points
from dreamfusion_jax.scene.nerf import NerfScene, density_at
from dreamfusion_jax.scene.occupancy import negligible_density

_POINTS_PER_SLAB = 2**22
# Two decades either way: further from the level the density does not matter.
_RANGE = 4.6


@dataclasses.dataclass(frozen=True, eq=False)
class Lattice:
    """Evenly spaced points around what is occupied in a scene."""

    scene: NerfScene
    params: dict
    step: int  # of the run, for what is annealed
    occupied: Bool[np.ndarray, "n n n"]
    low: Float[np.ndarray, "3"]  # the first point, in the world frame
    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def around(
        cls,
        scene: NerfScene,
        params: dict,
        step: int,
        occupied: Bool[np.ndarray, "n n n"],
        resolution: int,
    ) -> "Lattice":
        """Return the lattice with so many points along the longest side of what is occupied."""
        cell = 2 * scene.radius / occupied.shape[0]
        index = np.argwhere(occupied)
        low, high = index.min(0) * cell - scene.radius, (index.max(0) + 1) * cell - scene.radius
        spacing = float((high - low).max()) / (resolution - 1)
        x, y, z = (int(np.ceil(side / spacing)) + 1 for side in high - low)
        return cls(scene, params, step, occupied, low, spacing, (x, y, z))

    def density(self, first: int, last: int) -> Float[np.ndarray, "planes y z"]:
        """Return the density on the planes first <= x < last.

        Raises:
          NoSurface: it is not finite.
        """
        n, radius = self.occupied.shape[0], self.scene.radius
        low = self.low + [self.spacing * first, 0.0, 0.0]
        shape = (last - first, *self.shape[1:])
        points = grid_points(low, low + self.spacing * (np.array(shape) - 1), shape)
        inside = np.clip(((points + radius) / (2 * radius / n)).astype(np.int32), 0, n - 1)
        wanted = self.occupied[inside[:, 0], inside[:, 1], inside[:, 2]]
        density = np.zeros(len(points), np.float32)
        if wanted.any():
            density[wanted] = density_at(self.scene, self.params, points[wanted], self.step)
        if not np.isfinite(density).all():
            raise NoSurface(
                "The density of the scene is not finite; export an older checkpoint instead, with "
                "--step."
            )
        density[density < negligible_density(radius)] = 0.0
        return density.reshape(shape)

    def triangles(
        self, level: float, *, progress: bool = False
    ) -> tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]]:
        """Return where the density is `level`, by marching cubes (Lorensen and Cline 1987).

        It is closed: beyond the lattice nothing is dense.

        Raises:
          NoSurface: nothing is as dense.
        """
        vertices, faces, count, highest = [], [], 0, 0.0
        shared = np.zeros((0, 3)), np.zeros(0, np.int64)  # of the last plane, and their numbers
        bar = tqdm(total=self.shape[0], desc="surface", unit="plane", disable=not progress)
        with bar:
            for first, field, largest in self._slabs(level):
                highest = max(highest, largest)
                bar.update(min(first + len(field), self.shape[0]) - bar.n)
                if not field.min() < 0 < field.max():
                    shared = np.zeros((0, 3)), np.zeros(0, np.int64)
                    continue
                own, triangles, _, _ = measure.marching_cubes(field, 0.0)
                own = own.astype(np.float64) + [first, 0, 0]
                number = _numbers(own, first, shared, count)
                new = number >= count
                vertices.append(own[new])
                faces.append(number[triangles])
                count += int(new.sum())
                last = own[:, 0] == first + len(field) - 1
                shared = own[last], number[last]
        if not faces:
            raise NoSurface(
                f"Nothing in the scene is as dense as {level:g}: its highest density is "
                f"{highest:.3g}."
            )
        # The margin is one point wide.
        return self.low + self.spacing * (np.concatenate(vertices) - 1), np.concatenate(faces)

    def _slabs(self, level: float) -> Iterator[tuple[int, Float[np.ndarray, "x y z"], float]]:
        """Yield ln(density / level) with a margin, which begins at a plane and ends on the next's.

        In the logarithm the density is smooth, and vertices come to lie where they should.
        """
        count = self.shape[0]
        thick = max(1, _POINTS_PER_SLAB // (self.shape[1] * self.shape[2]))
        before = None
        for first in range(0, count, thick):
            density = self.density(first, min(first + thick, count))
            log_ratio = np.log(np.maximum(density, 1e-20) / np.float32(level))
            ends = (0, int(first + thick >= count))
            own = np.pad(
                np.clip(log_ratio, -_RANGE, _RANGE), [ends, (1, 1), (1, 1)], constant_values=-_RANGE
            )
            margin = np.full_like(own[:1], -_RANGE) if before is None else before
            before = own[-1:]
            yield first, np.concatenate([margin, own]), float(density.max())


def _numbers(
    vertices: Float[np.ndarray, "n 3"],
    plane: int,
    shared: tuple[Float[np.ndarray, "m 3"], Int[np.ndarray, "m"]],
    count: int,
) -> Int[np.ndarray, "n"]:
    """Return the number of each vertex; those of a plane that is shared have theirs already.

    Both slabs compute them of the same values, so that they are equal bit for bit.
    """
    known, numbers = shared
    on_plane = vertices[:, 0] == plane
    found = np.full(len(vertices), -1, np.int64)
    if len(known) and on_plane.any():
        rows = np.concatenate([known, vertices[on_plane]])
        _, place = np.unique(rows, axis=0, return_inverse=True)
        number_of = np.full(int(place.max()) + 1, -1, np.int64)
        number_of[place.ravel()[: len(known)]] = numbers
        found[on_plane] = number_of[place.ravel()[len(known) :]]
    new = found < 0
    found[new] = count + np.arange(int(new.sum()))
    return found
