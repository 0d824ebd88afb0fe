"""Scaling of voxels, by statistics that are the same for each position.

Mean and standard deviation are those of a tomogram, or of a whole set of subtomograms,
not of the single subtomogram: a network swept over the whole tomogram then sees the
same values as on a crop. Gray values are clipped to their 1st and 99th percentile
first, so that gold beads and broken pixels don't count.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.crop import raw_edge, resample_centered
from napari_ectkd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_ectkd.io.tomogram import Tomogram

BLOCK = 40
"""Edge of the blocks that a tomogram's statistics are taken from, in voxels."""
BLOCKS_PER_AXIS = 5
MOST_SUBTOMOGRAMS = 512


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of gray values, protein bright."""

    mean: float
    std: float


def tomogram_statistics(tomogram: Tomogram, voxel_size: float) -> Statistics:
    """Return the statistics of a tomogram, as seen at a voxel size in Å.

    Taken from up to 125 blocks on a grid that covers a small tomogram; blocks of a
    single gray value (padding) are left out.

    Raises
    ------
    DataError
        If the tomogram is of one gray value.
    FormatError
        If there are NaN voxels in a block.
    """
    ratio = voxel_size / tomogram.voxel_size
    size = max(min(BLOCK, *(int(n / max(ratio, 1)) - 8 for n in tomogram.shape)), 4)
    edge = min(raw_edge(size, ratio), *tomogram.shape)
    starts = [
        np.linspace(0, n - edge, min(BLOCKS_PER_AXIS, -(-n // edge))).astype(int)
        for n in tomogram.shape
    ]
    blocks = []
    for corner in product(*starts):
        z, y, x = (slice(int(c), int(c) + edge) for c in corner)
        block = tomogram.read((z, y, x))
        if np.ptp(block) > 0:
            blocks.append(resample_centered(block, size, ratio))
    return _clipped_statistics(blocks, f"tomogram {tomogram.name}")


def stack_statistics(volumes: Sequence[NDArray]) -> Statistics:
    """Return the statistics of a set of subtomograms, from up to 512 of them.

    NaN voxels are passed over here: who reads the subtomogram says which one it is.

    Raises
    ------
    DataError
        If all have one gray value.
    """
    chosen = np.linspace(0, len(volumes) - 1, min(len(volumes), MOST_SUBTOMOGRAMS))
    return _clipped_statistics(
        (np.asarray(volumes[int(i)], dtype=np.float32) for i in chosen),
        "the data set",
    )


def normalize_each(volumes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `(b, n, n, n)` subtomograms, each with mean 0 and standard deviation 1."""
    axes = (1, 2, 3)
    centered = volumes - volumes.mean(axis=axes, keepdims=True)
    scale: NDArray[np.float32] = centered.std(axis=axes, keepdims=True)
    normalized: NDArray[np.float32] = centered / np.maximum(scale, 1e-12)
    return normalized


def _clipped_statistics(
    blocks: Iterable[NDArray[np.float32]], owner: str
) -> Statistics:
    parts = [block.ravel() for block in blocks]
    values = np.concatenate(parts) if parts else np.zeros(1, dtype=np.float32)
    values = values[np.isfinite(values)]
    if not len(values):
        raise DataError(f"{owner} has NaN or infinite voxels only")
    low, high = np.percentile(values, [1, 99])
    values = np.clip(values, low, high)
    std = float(values.std(dtype=np.float64))
    if not std > 0:
        raise DataError(f"{owner} has a single gray value; is it the right file?")
    return Statistics(float(values.mean(dtype=np.float64)), std)
