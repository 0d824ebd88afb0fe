"""Where a sweep scores a tomogram, and in which parts it does so.

The grid begins at the first voxel around which a whole box fits, and ends at the last:
the same places that a pick may have to be cropped. Nearer to a face than half a box
nothing is searched, as no pick there is classified.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_ectkd.io.tomogram import Tomogram

Span = tuple[int, int]
"""First and last (excluded) position of a grid along an axis."""
Spans = tuple[Span, Span, Span]
"""Along z, y, x."""


@dataclass(frozen=True)
class Grid:
    """Scored positions: box//2 + `stride` i voxels along each axis.

    Attributes
    ----------
    shape
        Number of positions along z, y, x.
    box_px
        Voxels along each axis of the model's box.
    stride
        Voxels from one position to the next.
    """

    shape: tuple[int, int, int]
    box_px: int
    stride: int

    @classmethod
    def over(cls, tomogram: Tomogram, box_px: int, stride: int) -> Grid:
        """Return the grid of a tomogram.

        Raises
        ------
        DataError
            If no box fits into it.
        """
        if min(tomogram.shape) < box_px:
            size = " × ".join(map(str, tomogram.shape))
            raise DataError(
                f"a box of {box_px} voxels does not fit into {tomogram.name} "
                f"({size} voxels of {tomogram.voxel_size:g} Å); take a model with a "
                "smaller box"
            )
        z, y, x = ((n - box_px) // stride + 1 for n in tomogram.shape)
        return cls((z, y, x), box_px, stride)

    @property
    def n_positions(self) -> int:
        """How many positions there are."""
        return int(np.prod(self.shape))

    def voxels(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `(n, 3)` positions of the grid in voxels of the tomogram."""
        return positions * self.stride + self.box_px // 2

    def region(self, spans: Spans, window_px: int) -> tuple[slice, slice, slice]:
        """Return the voxels that windows around the positions of some spans cover."""
        z, y, x = (
            slice(
                self.box_px // 2 + self.stride * first - window_px // 2,
                self.box_px // 2
                + self.stride * (last - 1)
                - window_px // 2
                + window_px,
            )
            for first, last in spans
        )
        return z, y, x

    def tiles(self, window_px: int, margin: int, *, most_voxels: int) -> list[Spans]:
        """Return spans that cover the grid once.

        Parameters
        ----------
        window_px
            Voxels along each axis that a position depends on.
        margin
            Positions that are scored around each tile, too.
        most_voxels
            That a tile may cover with the windows around its positions. One position is
            a tile in any case.
        """
        parts = [1, 1, 1]
        while True:
            lengths = [-(-n // k) for n, k in zip(self.shape, parts, strict=True)]
            edges = [(n + 2 * margin - 1) * self.stride + window_px for n in lengths]
            longest = int(np.argmax(lengths))
            if np.prod(edges) <= most_voxels or lengths[longest] == 1:
                break
            parts[longest] += 1
        axes = []
        for n, k in zip(self.shape, parts, strict=True):
            cuts = np.linspace(0, n, min(k, n) + 1).round().astype(int)
            axes.append([(int(a), int(b)) for a, b in pairwise(cuts)])
        z, y, x = axes
        return list(product(z, y, x))

    def widened(self, spans: Spans, margin: int) -> Spans:
        """Return spans with `margin` positions more on each side, within the grid."""
        z, y, x = (
            (max(first - margin, 0), min(last + margin, n))
            for (first, last), n in zip(spans, self.shape, strict=True)
        )
        return z, y, x


def halved(spans: Spans) -> list[Spans]:
    """Return two spans that cover what one did, cut across its longest axis.

    Raises
    ------
    ValueError
        If there is nothing to cut.
    """
    lengths = [last - first for first, last in spans]
    axis = int(np.argmax(lengths))
    if lengths[axis] < 2:
        raise ValueError("a single position cannot be cut")
    first, last = spans[axis]
    middle = (first + last) // 2
    return [
        _replaced(spans, axis, (first, middle)),
        _replaced(spans, axis, (middle, last)),
    ]


def size(spans: Sequence[Span]) -> int:
    """Return the number of positions in some spans."""
    return int(np.prod([last - first for first, last in spans]))


def _replaced(spans: Spans, axis: int, span: Span) -> Spans:
    z, y, x = (span if i == axis else old for i, old in enumerate(spans))
    return z, y, x
