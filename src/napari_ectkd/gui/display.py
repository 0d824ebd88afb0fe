"""What of a tomogram is shown: filtered planes, computed one at a time.

Display only: nothing here reaches picking, training or prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.io.tomogram import Tomogram

# A Gaussian falls to one half at this resolution: exp(-2 (pi s / d)²) = 1/2.
_SIGMA_PER_RESOLUTION = np.sqrt(np.log(2) / 2) / np.pi
WHOLE_LIMIT_BYTES = 2**29
"""Larger volumes are shown in 3D from every second or fourth voxel."""


@dataclass(frozen=True)
class DisplaySettings:
    """How planes are shown.

    Attributes
    ----------
    low_pass
        Å, resolution at which a Gaussian has fallen to one half; 0 for none.
    slab
        Å, thickness of what is averaged; 0 for the plane alone.
    is_dark
        Whether protein is shown dark on a bright ground.
    """

    low_pass: float = 0.0
    slab: float = 0.0
    is_dark: bool = False


class DisplayVolume:
    """A tomogram as an array whose planes are averaged and filtered when asked for.

    Protein is bright in it. Only the planes of a slab are read from the disk.

    Parameters
    ----------
    tomogram
        What is shown.
    step
        Every how manieth voxel is taken; the coarser levels of a pyramid.
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, tomogram: Tomogram, step: int = 1) -> None:
        self.tomogram = tomogram
        self.settings = DisplaySettings()
        self._step = step
        self.shape = tuple(-(-n // step) for n in tomogram.shape)
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> NDArray[np.float32]:
        """Return the whole volume, unfiltered."""
        return self._finished(self._read((slice(None),) * 3)).astype(
            dtype or self.dtype, copy=False
        )

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """Return a part; a single plane is averaged over the slab and filtered."""
        index = index if isinstance(index, tuple) else (index,)
        index = (*index, *(slice(None),) * (3 - len(index)))
        planes = [axis for axis, at in enumerate(index) if not isinstance(at, slice)]
        if len(planes) != 1:
            return self._finished(self._read(index))
        (axis,) = planes
        step = self._step * self.tomogram.voxel_size
        reach = round(self.settings.slab / 2 / step)
        at = int(index[axis])
        at += self.shape[axis] if at < 0 else 0
        slab = slice(max(at - reach, 0), min(at + reach + 1, self.shape[axis]))
        whole = tuple(slab if a == axis else slice(None) for a in range(3))
        plane = self._read(whole).mean(axis=axis, dtype=np.float32)
        plane = self._low_passed(self._finished(plane))
        return plane[tuple(at for a, at in enumerate(index) if a != axis)]

    def contrast_limits(self) -> tuple[float, float]:
        """Return the 0.5 and 99.7 percentile of a few planes as they are shown."""
        planes = np.unique(np.linspace(0, self.shape[0] - 1, 7).astype(int)[1:-1])
        values = np.concatenate([self[int(z)][::2, ::2].ravel() for z in planes])
        low, high = (float(v) for v in np.percentile(values, [0.5, 99.7]))
        return (low, high) if high > low else (low, low + 1.0)

    def _read(self, index: tuple) -> NDArray[np.float32]:
        voxels = self.tomogram.voxels
        if self._step > 1:
            voxels = voxels[:: self._step, :: self._step, :: self._step]
        return np.asarray(voxels[index], dtype=np.float32)

    def _finished(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        finite = np.isfinite(values)
        if not finite.all():
            values = np.where(
                finite, values, values[finite].mean() if finite.any() else 0
            )
        return -values if self.tomogram.is_inverted else values

    def _low_passed(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        step = self._step * self.tomogram.voxel_size
        sigma_px = self.settings.low_pass * _SIGMA_PER_RESOLUTION / step
        if sigma_px < 0.2:
            return plane
        from scipy.ndimage import gaussian_filter

        return gaussian_filter(plane, sigma_px, mode="nearest", truncate=3.0)


def display_levels(tomogram: Tomogram) -> list[DisplayVolume]:
    """Return the volume to show and, for a large one, coarser ones for 3D."""
    levels = [DisplayVolume(tomogram)]
    n_bytes = 4 * levels[0].size
    while n_bytes > WHOLE_LIMIT_BYTES and len(levels) < 4:
        levels.append(DisplayVolume(tomogram, 2 ** len(levels)))
        n_bytes = 4 * levels[-1].size
    return levels
