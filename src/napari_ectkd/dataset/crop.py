"""Subtomograms cut out of a tomogram around picks.

A crop is centered on the voxel nearest to the pick, which comes to lie at index box//2;
noise is not interpolated, the rest of the position is left over. Only where the model's
voxel size differs from the tomogram's is a crop resampled, with anti-aliasing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_ectkd.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.io.tomogram import Tomogram

SAME_SIZE = 0.01
"""Voxel sizes that differ by a smaller share count as equal."""


def is_same_voxel_size(first: float, second: float) -> bool:
    """Return whether two voxel sizes in Å count as equal (1 %)."""
    return abs(first / second - 1) <= SAME_SIZE


def is_inside(
    tomogram: Tomogram, positions: NDArray[np.float64], box_px: int, voxel_size: float
) -> NDArray[np.bool_]:
    """Return for each position whether its whole box lies in the tomogram.

    Parameters
    ----------
    tomogram
        Where to crop.
    positions
        `(n, 3)`, Å, zyx.
    box_px
        Edge of the box in voxels of `voxel_size`.
    voxel_size
        Å, of the crop.

    Raises
    ------
    DataError
        If the box is larger than the tomogram, so that no position can be inside.
    """
    start, edge = _window(tomogram, positions, box_px, voxel_size)
    shape = np.array(tomogram.shape)
    if (edge > shape).any():
        raise DataError(
            f"a box of {box_px} voxels ({box_px * voxel_size:g} Å) is larger than "
            f"tomogram {tomogram.name}, {' × '.join(map(str, shape))} voxels of "
            f"{tomogram.voxel_size:g} Å; take a smaller box"
        )
    fits: NDArray[np.bool_] = (start >= 0) & (start + edge <= shape)
    inside: NDArray[np.bool_] = np.logical_and.reduce(fits, axis=1)
    return inside


def crop_subtomograms(
    tomogram: Tomogram, positions: NDArray[np.float64], box_px: int, voxel_size: float
) -> NDArray[np.float32]:
    """Return `(n, box, box, box)` subtomograms, protein bright, not normalized.

    Parameters
    ----------
    tomogram, positions, box_px, voxel_size
        As `is_inside`, which must hold for all positions.

    Raises
    ------
    FormatError
        If there are NaN voxels in a crop.
    """
    start, edge = _window(tomogram, positions, box_px, voxel_size)
    crops = np.empty((len(positions), *(box_px,) * 3), dtype=np.float32)
    for index, corner in enumerate(start):
        z, y, x = (slice(int(c), int(c) + edge) for c in corner)
        crops[index] = resample_centered(
            tomogram.read((z, y, x)), box_px, voxel_size / tomogram.voxel_size
        )
    return crops


def resample_centered(
    volume: NDArray[np.float32], box_px: int, ratio: float
) -> NDArray[np.float32]:
    """Return a box of new voxels, its center on the old one's center (index edge//2).

    Parameters
    ----------
    volume
        `(m, m, m)`, as large as `raw_edge` says.
    box_px
        Edge of the result.
    ratio
        New voxel size divided by the old one. Above 1, a Gaussian of (ratio − 1) / 2
        voxels keeps noise above the new Nyquist frequency from folding back.
    """
    if abs(ratio - 1) <= SAME_SIZE:
        return volume
    if ratio > 1:
        volume = ndimage.gaussian_filter(volume, (ratio - 1) / 2, mode="nearest")
    offset = volume.shape[0] // 2 - ratio * (box_px // 2)
    resampled: NDArray[np.float32] = ndimage.affine_transform(
        volume,
        np.full(3, ratio),
        offset=offset,
        output_shape=(box_px,) * 3,
        order=3,
        mode="nearest",
    )
    return resampled


def raw_edge(box_px: int, ratio: float) -> int:
    """Return how many voxels of a tomogram a crop needs along each axis."""
    if abs(ratio - 1) <= SAME_SIZE:
        return box_px
    return 2 * (int(np.ceil(ratio * (box_px // 2 + 1))) + 2)


def _window(
    tomogram: Tomogram, positions: NDArray[np.float64], box_px: int, voxel_size: float
) -> tuple[NDArray[np.int64], int]:
    """Return the corner of each crop in voxels, and its edge."""
    edge = raw_edge(box_px, voxel_size / tomogram.voxel_size)
    center = np.rint(positions / tomogram.voxel_size).astype(np.int64)
    return center - edge // 2, edge
