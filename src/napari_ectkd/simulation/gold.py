"""Gold fiducials: balls of 10 nm, by far the densest thing in a tomogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import DataError
from napari_ectkd.simulation.packing import Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.simulation.specimen import Specimen

DIAMETER = 100.0
"""Å."""
CONTRAST = 10.0
"""Against ice, where protein has 1. The mean inner potential of gold is about 25 V,
that of vitreous ice about 4 V; protein lies some 2 V above ice."""


def add_gold(
    specimen: Specimen, label: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Add a bead where it overlaps nothing; return its center, zyx voxels.

    Parameters
    ----------
    specimen
        What to add it to.
    label
        Of its voxels.
    random
        Where all draws come from.

    Raises
    ------
    DataError
        If no place is found.
    """
    radius_px = DIAMETER / 2 / specimen.voxel_size
    half = int(np.ceil(radius_px + 1))
    shift = random.uniform(-0.5, 0.5, 3)
    z, y, x = (np.arange(-half, half + 1) - s for s in shift)
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    # A voxel at the surface is partly gold.
    share = np.clip(radius_px - distance + 0.5, 0, 1)
    mask = share >= 0.5
    shape = Shape.of_mask(mask, specimen.gap_px, random)
    place = specimen.room.find(shape, random, keeps_margin=False)
    if place is None:
        raise DataError(
            "no room for a gold bead; take fewer (--gold) or a larger --shape or "
            "--thickness"
        )
    specimen.room.take(shape, place)
    specimen.paint((CONTRAST * share).astype(np.float32), mask, place - half, label)
    center: NDArray[np.float64] = place + shift
    return center
