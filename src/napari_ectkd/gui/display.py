"""A tomogram made visible: smoothed, averaged over a slab, inverted; display only.

At a signal-to-noise ratio of 0.1 a bare slice shows nothing. What napari draws is a
lazy view of the memory map that does the work for the voxels it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_ectkd.gui.lazy_volume import LazyVolume

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


class DisplayedVolume(LazyVolume):
    """A tomogram as an array for napari, `(z, y, x)` float32.

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
        super().__init__(tomogram.shape)
        self.tomogram = tomogram
        self.settings = settings or DisplaySettings()

    def part(self, region: list[int | slice]) -> NDArray[np.float32]:
        """Return the voxels of integers and slices, smoothed along the slices."""
        half = round(self.settings.slab / self.tomogram.voxel_size / 2)
        wider, averaged = [], []
        for axis, (place, n) in enumerate(zip(region, self.shape, strict=True)):
            if isinstance(place, slice):
                wider.append(place)
            else:
                center = int(place) % n
                wider.append(slice(max(center - half, 0), center + half + 1))
                averaged.append(axis)
        voxels = np.asarray(self.tomogram.voxels[tuple(wider)], dtype=np.float32)
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
