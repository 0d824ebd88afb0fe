"""A tomogram resampled once to a model's voxel size, on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_ectkd.events import Progress
from napari_ectkd.io.atomic import cannot_write, make_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram

TILE = 96
"""New voxels along each axis of what is resampled at once."""
RIM = 12
"""Old voxels around it: the weight of a cubic spline's coefficients falls to a quarter
with each, so that no seam is left."""


@contextmanager
def room_for_resampled(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder inside another one, on the disk of the results.

    Raises
    ------
    WriteError
        If it cannot be made.
    """
    make_folder(folder)
    with TemporaryDirectory(prefix=".resampled-", dir=folder) as name:
        yield folder / name


def resample_tomogram(
    tomogram: Tomogram, voxel_size: float, folder: Path, *, cancel: Cancel
) -> Generator[Event, None, Tomogram]:
    """Yield progress; return the same tomogram with voxels of another size.

    Cubic splines, after a Gaussian of (ratio − 1) / 2 voxels where the new voxels are
    larger, as `dataset.crop` does with each crop. Voxel (0, 0, 0) keeps its place.

    Parameters
    ----------
    tomogram
        Read tile by tile.
    voxel_size
        Å, of the result.
    folder
        Where the result lies, as a memory map of float32 with protein bright.
    cancel
        Looked at once per tile.

    Raises
    ------
    FormatError
        If there are NaN voxels.
    WriteError
        If there is no room.
    """
    ratio = voxel_size / tomogram.voxel_size
    shape = [int((n - 1) / ratio + 1e-6) + 1 for n in tomogram.shape]
    try:
        voxels = np.lib.format.open_memmap(
            folder / "voxels.npy", mode="w+", dtype=np.float32, shape=tuple(shape)
        )
    except OSError as error:
        raise cannot_write(folder, error) from error
    starts = list(product(*(range(0, n, TILE) for n in shape)))

    def work(start: tuple[int, ...]) -> None:
        stop = [min(a + TILE, n) for a, n in zip(start, shape, strict=True)]
        part = _resampled(tomogram, ratio, start, stop)
        z, y, x = (slice(a, b) for a, b in zip(start, stop, strict=True))
        voxels[z, y, x] = part

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work, start) for start in starts]
        try:
            for done, future in enumerate(futures, start=1):
                cancel.check()
                future.result()
                yield Progress(stage="resample", done=done, total=len(starts))
        finally:
            for future in futures:
                future.cancel()
    return replace(
        tomogram,
        voxels=voxels,
        voxel_size=voxel_size,
        is_inverted=False,
        contrast_is_guessed=False,
    )


def _resampled(
    tomogram: Tomogram, ratio: float, start: tuple[int, ...], stop: list[int]
) -> NDArray[np.float32]:
    """Return the new voxels from `start` to `stop`."""
    sigma = max((ratio - 1) / 2, 0)
    rim = RIM + int(np.ceil(4 * sigma))
    lows = [max(int(a * ratio) - rim, 0) for a in start]
    highs = [
        min(int(np.ceil((b - 1) * ratio)) + rim + 1, n)
        for b, n in zip(stop, tomogram.shape, strict=True)
    ]
    z, y, x = (slice(a, b) for a, b in zip(lows, highs, strict=True))
    old = tomogram.read((z, y, x))
    if sigma:
        old = ndimage.gaussian_filter(old, sigma, mode="nearest")
    new: NDArray[np.float32] = ndimage.affine_transform(
        old,
        np.full(3, ratio),
        offset=[a * ratio - low for a, low in zip(start, lows, strict=True)],
        output_shape=[b - a for a, b in zip(start, stop, strict=True)],
        order=3,
        mode="nearest",
    )
    return new
