"""Densities turned into orientations and moved, on any device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.simulation.density import Density

_OVERSAMPLING = 2
"""Linear interpolation blurs, more at some angles than others; less on a fine grid."""
_NOTHING = 1e-3
"""Share of the maximum: the ripples that a spline leaves around a density."""


class Sampler:
    """A density, ready to be turned and moved many times.

    Parameters
    ----------
    density
        What to turn; zero outside the sphere that fits into its cube.
    device
        Where volumes are made.

    Attributes
    ----------
    cube_px
        Edge of the smallest cube that holds it in any orientation, moved by at most
        half a voxel.
    """

    def __init__(self, density: Density, device: torch.device | None = None) -> None:
        n = density.voxels.shape[0]
        self.device = device or torch.device("cpu")
        fine = np.arange(n * _OVERSAMPLING) / _OVERSAMPLING
        # The spline goes through the voxels, so that a turn by 90° stays exact.
        voxels = ndimage.map_coordinates(
            density.voxels,
            np.meshgrid(fine, fine, fine, indexing="ij"),
            order=3,
            output=np.float32,
        )
        self._source = torch.from_numpy(voxels)[None, None].to(self.device)
        self._center = (n // 2) * _OVERSAMPLING
        self._reach_px = _reach(voxels, self._center) / _OVERSAMPLING
        self.cube_px = min(n + 2, 2 * math.ceil(self._reach_px + 3**0.5 / 2) + 1)
        self._inside: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def sample(
        self,
        rotations: NDArray[np.float64],
        shifts_px: NDArray[np.float64],
        box_px: int,
    ) -> torch.Tensor:
        """Return the density in boxes, turned about its center and then moved.

        Parameters
        ----------
        rotations
            `(b, 3, 3)` on (x, y, z), density to particle.
        shifts_px
            `(b, 3)` zyx: where the particle's center is, from the center of the box
            (index box_px // 2).
        box_px
            Edge of the boxes.

        Returns
        -------
        voxels
            `(b, box, box, box)` float32, zyx.
        """
        b = len(rotations)
        moved = np.linalg.norm(shifts_px, axis=1).max(initial=0)
        inside, grid = self._points(box_px, math.ceil(self._reach_px + moved))
        # grid_sample counts from -1 at the first voxel to 1 at the last.
        scale = 2 / (self._source.shape[-1] - 1)
        # Rows (x, y, z) times A are columns times its inverse: particle to density.
        linear = rotations * (_OVERSAMPLING * scale)
        constant = scale * self._center - 1 - shifts_px[:, None, ::-1] @ linear
        where = torch.baddbmm(
            torch.from_numpy(constant.astype(np.float32)).to(self.device),
            grid.expand(b, -1, -1),
            torch.from_numpy(linear.astype(np.float32)).to(self.device),
        )
        values = torch.nn.functional.grid_sample(
            self._source.expand(b, -1, -1, -1, -1),
            where.reshape(b, 1, 1, -1, 3),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=True,
        )
        boxes = torch.zeros(b, box_px**3, device=self.device)
        boxes[:, inside] = values.reshape(b, -1)
        return boxes.reshape(b, box_px, box_px, box_px)

    def _points(self, box_px: int, reach_px: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the voxels of a box that the density may reach.

        Half of a cube lies outside its sphere, and need not be looked up.

        Returns
        -------
        inside
            `(p,)` their flat indices.
        grid
            `(1, p, 3)` float32, x, y, z from the center of the box.
        """
        key = box_px, reach_px
        if key not in self._inside:
            offsets = torch.arange(box_px, dtype=torch.float32) - box_px // 2
            z, y, x = torch.meshgrid(offsets, offsets, offsets, indexing="ij")
            grid = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
            inside = torch.nonzero(grid.square().sum(dim=1) <= reach_px**2)[:, 0]
            self._inside[key] = (
                inside.to(self.device),
                grid[inside][None].to(self.device),
            )
        return self._inside[key]

    def add_to(
        self,
        volumes: torch.Tensor,
        which: NDArray[np.int64],
        rotations: NDArray[np.float64],
        positions_px: NDArray[np.float64],
    ) -> None:
        """Add turned densities to volumes, in place; what passes a border is cut off.

        Parameters
        ----------
        volumes
            `(b, z, y, x)` float32.
        which
            `(m,)` the volume that each particle is added to.
        rotations
            `(m, 3, 3)` on (x, y, z), density to particle.
        positions_px
            `(m, 3)` zyx, where the particles' centers are.
        """
        nearest = np.round(positions_px).astype(int)
        cubes = self.sample(rotations, positions_px - nearest, self.cube_px)
        starts = nearest - self.cube_px // 2
        for cube, index, start in zip(cubes, which, starts, strict=True):
            into = [
                slice(max(int(s), 0), min(int(s) + self.cube_px, n))
                for s, n in zip(start, volumes.shape[1:], strict=True)
            ]
            if all(part.start < part.stop for part in into):
                of = [
                    slice(part.start - int(s), part.stop - int(s))
                    for part, s in zip(into, start, strict=True)
                ]
                volumes[int(index)][tuple(into)] += cube[tuple(of)]


def _reach(voxels: NDArray[np.float32], center: int) -> float:
    """Return how far from the center the outermost voxel is that is not 0."""
    squares = [(np.arange(n) - center) ** 2 for n in voxels.shape]
    distance = squares[0][:, None, None] + squares[1][:, None] + squares[2]
    is_there = np.abs(voxels) > _NOTHING * np.abs(voxels).max()
    # Interpolation carries it one voxel further.
    return float(np.sqrt(distance[is_there].max(initial=0))) + 1
