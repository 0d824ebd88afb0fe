"""A tomogram made visible: smoothed, averaged over a slab, inverted; display only.

At a signal-to-noise ratio of 0.1 a bare slice shows nothing. What napari draws is a
lazy view of the memory map that does the work for the voxels it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.io.tomogram import Tomogram

HALF_AMPLITUDE = math.sqrt(2 * math.log(2)) / (2 * math.pi)
"""Deviation of the Gaussian, a share of the resolution where it halves amplitudes."""


@dataclass
class DisplaySettings:
    """How a tomogram is shown.

    Attributes
    ----------
    low_pass
        Å, detail finer than this fades; 0 shows all.
    slab
        Å, thickness that a slice is the mean of; 0 for a single plane.
    is_negative
        Whether protein is shown dark.
    """

    low_pass: float = 0.0
    slab: float = 0.0
    is_negative: bool = False


class DisplayedVolume:
    """An array for napari, `(z, y, x)` float32, computed where it is looked at.

    Parameters
    ----------
    tomogram
        What to show; its contrast sign is applied, so that protein is bright.
    settings
        May be changed; refresh the layer then.
    """

    def __init__(
        self, tomogram: Tomogram, settings: DisplaySettings | None = None
    ) -> None:
        self.tomogram = tomogram
        self.settings = settings or DisplaySettings()
        self.shape = tomogram.shape
        self.ndim = 3
        self.dtype = np.dtype(np.float32)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> NDArray[np.float32]:
        """Return the whole volume; napari asks for it in 3D."""
        volume = self[:, :, :]
        return volume if dtype is None else volume.astype(dtype)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Return the voxels of integers and slices, smoothed along the slices."""
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (4 - len(parts))
        parts += [slice(None)] * (3 - len(parts))
        half = round(self.settings.slab / self.tomogram.voxel_size / 2)
        region, averaged = [], []
        for axis, (part, n) in enumerate(zip(parts, self.shape, strict=True)):
            if isinstance(part, slice):
                region.append(part)
            else:
                center = int(part) % n
                region.append(slice(max(center - half, 0), center + half + 1))
                averaged.append(axis)
        voxels = np.asarray(self.tomogram.voxels[tuple(region)], dtype=np.float32)
        image = voxels.mean(axis=tuple(averaged)) if averaged else voxels
        if not np.isfinite(image).all():
            image = np.nan_to_num(image, posinf=0.0, neginf=0.0)
        if self.settings.low_pass > 0 and image.ndim:
            sigma = HALF_AMPLITUDE * self.settings.low_pass / self.tomogram.voxel_size
            image = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
        if self.tomogram.is_inverted != self.settings.is_negative:
            image = -image
        return np.asarray(image, dtype=np.float32)

    def contrast_limits(self) -> tuple[float, float]:
        """Return the 1st and 99.7th percentile of five slices as they are shown."""
        depth = self.shape[0]
        planes = [self[z] for z in np.linspace(0.1, 0.9, 5) * (depth - 1)]
        step = max(1, max(self.shape[1:]) // 400)
        values = np.concatenate([plane[::step, ::step].ravel() for plane in planes])
        low, high = np.percentile(values, [1, 99.7])
        return (float(low), float(high)) if high > low else (float(low), low + 1.0)
