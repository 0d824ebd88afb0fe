"""Finding room: random places where a shape overlaps nothing that is there already.

Shapes are sets of voxels, so that what is bent, hollow or long lies closer to its
neighbors than an enclosing sphere would let it. Places are tried at random, many at a
time: a few voxels of the shape rule out nearly all places that are taken, and only the
rest are looked at in whole (random sequential addition).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PROBES = 48
"""Voxels of a shape that rule out most places."""
_FIRST_TRIES = 64
_MOST_TRIES_AT_ONCE = 8192
_TRIES = 65_536
"""Places that are tried for one shape as it is turned."""
_WHOLE_AT_ONCE = 16


@dataclass(frozen=True)
class Shape:
    """Voxels that something takes, about its center.

    Attributes
    ----------
    taken
        `(m, 3)` zyx, integers from the voxel that its place is named by.
    clear
        `(k, 3)` likewise, in random order: all that has to be free, gap included.
    """

    taken: NDArray[np.int64]
    clear: NDArray[np.int64]

    @classmethod
    def of_mask(
        cls, mask: NDArray[np.bool_], gap_px: float, random: np.random.Generator
    ) -> Shape:
        """Return the shape of a cube's voxels, its place named by index n // 2.

        Parameters
        ----------
        mask
            `(n, n, n)`.
        gap_px
            Voxels around it that have to be free.
        random
            Where the order of the voxels comes from.
        """
        taken = np.argwhere(mask) - mask.shape[0] // 2
        clear = taken
        if gap_px > 0:
            wide = np.pad(mask, int(np.ceil(gap_px)))
            near = ndimage.distance_transform_edt(~wide) <= gap_px
            clear = np.argwhere(near) - wide.shape[0] // 2
        return cls(taken, random.permutation(clear))


class Room:
    """What is taken of a tomogram, and what is free.

    Parameters
    ----------
    shape
        Voxels along z, y, x.
    slab
        First plane along z that may be taken, and the first that no more may be.
    margin_px
        Voxels that the centers of shapes keep from the faces.
    gap_px
        Voxels that shapes keep from each other at most.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        slab: tuple[int, int],
        margin_px: float = 0.0,
        gap_px: float = 0.0,
    ) -> None:
        last = np.array(shape) - 1
        self._lowest = np.array([slab[0], 0, 0])
        self._highest = np.array([slab[1] - 1, *last[1:]])
        margin = int(np.ceil(margin_px))
        self._margin = margin, last - margin
        # Gaps may pass the faces; so nothing has to be cut off there.
        self._pad = int(np.ceil(gap_px))
        padded = np.array(shape) + 2 * self._pad
        self._taken = np.zeros(padded, dtype=bool)
        self._steps = np.array([padded[1] * padded[2], padded[2], 1])

    @property
    def taken(self) -> NDArray[np.bool_]:
        """`(z, y, x)`, whether a voxel is taken; a view."""
        inside = slice(self._pad, -self._pad or None)
        return self._taken[inside, inside, inside]

    def holds(self, shape: Shape) -> bool:
        """Return whether a shape would fit if nothing were taken."""
        low, high = self._bounds(shape)
        return bool((low <= high).all())

    def _bounds(
        self, shape: Shape, keeps_margin: bool = True
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the least and the greatest place (zyx) where a shape is inside."""
        low = self._lowest - shape.taken.min(axis=0)
        high = self._highest - shape.taken.max(axis=0)
        if keeps_margin:
            low = np.maximum(low, self._margin[0])
            high = np.minimum(high, self._margin[1])
        return low, high

    def find(
        self, shape: Shape, random: np.random.Generator, *, keeps_margin: bool = True
    ) -> NDArray[np.int64] | None:
        """Return a random place `(3,)` zyx where a shape overlaps nothing, or None.

        Parameters
        ----------
        shape
            What to place.
        random
            Where all draws come from.
        keeps_margin
            Whether its center keeps from the faces, not just the shape.
        """
        low, high = self._bounds(shape, keeps_margin)
        if (low > high).any():
            return None
        taken = self._taken.reshape(-1)
        clear = shape.clear @ self._steps
        probes, rest = clear[:_PROBES], clear[_PROBES:]
        tried, n = 0, _FIRST_TRIES
        while tried < _TRIES:
            places = random.integers(low, high + 1, (n, 3))
            at = (places + self._pad) @ self._steps
            left = np.flatnonzero(~taken[at[:, None] + probes].any(axis=1))
            for start in range(0, len(left), _WHOLE_AT_ONCE):
                some = left[start : start + _WHOLE_AT_ONCE]
                is_free = ~taken[at[some, None] + rest].any(axis=1)
                if is_free.any():
                    place: NDArray[np.int64] = places[some[is_free.argmax()]]
                    return place
            tried += n
            n = min(2 * n, _MOST_TRIES_AT_ONCE)
        return None

    def take(self, shape: Shape, place: NDArray[np.int64]) -> None:
        """Note that a shape lies at a place."""
        at = (place + self._pad) @ self._steps + shape.taken @ self._steps
        self._taken.reshape(-1)[at] = True
