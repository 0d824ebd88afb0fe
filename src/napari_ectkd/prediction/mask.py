"""A volume that says where picks may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import DataError
from napari_ectkd.io.formats import open_volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.prediction.grid import Grid, Spans


@dataclass(frozen=True)
class Mask:
    """A volume of the tomogram's shape, read where it is needed.

    Attributes
    ----------
    path
        Its file.
    voxels
        `(z, y, x)`; picks may be where it is above 0.
    ratio
        Size of the voxels that positions are given in, divided by that of the mask's.
    """

    path: Path
    voxels: NDArray = field(repr=False)
    ratio: float = 1.0

    @classmethod
    def open(cls, path: Path, tomogram: Tomogram) -> Mask:
        """Open the mask of a tomogram.

        Raises
        ------
        FileMissingError, FormatError
            As any volume.
        DataError
            If its shape is another one.
        """
        voxels = open_volume(path).voxels
        if voxels.shape != tomogram.shape:
            theirs, ours = (
                " × ".join(map(str, s)) for s in (voxels.shape, tomogram.shape)
            )
            raise DataError(
                f"mask {path.name} has {theirs} voxels, {tomogram.name} has {ours}; "
                "make the mask from this tomogram"
            )
        return cls(path, voxels)

    def facts(self) -> list[str | int]:
        """Return what tells this mask from another one."""
        stat = self.path.stat()
        return [str(self.path.resolve()), stat.st_size, stat.st_mtime_ns]

    def is_inside(self, positions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return for `(n, 3)` positions in voxels whether picks may be there.

        What lies outside of the tomogram is judged by the nearest voxel of its face.
        """
        nearest = np.rint(positions * self.ratio).astype(np.int64)
        last = np.array(self.voxels.shape) - 1
        inside: NDArray[np.bool_] = self.voxels[tuple(np.clip(nearest, 0, last).T)] > 0
        return inside

    def touches(self, grid: Grid, tile: Spans) -> bool:
        """Return whether any pick may be in a tile."""
        # A pick is at most half a stride from its position, then rounded.
        z, y, x = (
            slice(
                max(int(region.start * self.ratio) - 1, 0),
                int(region.stop * self.ratio) + 2,
            )
            for region in grid.region(tile, min(grid.stride + 1, grid.box_px))
        )
        return bool((self.voxels[z, y, x] > 0).any())
