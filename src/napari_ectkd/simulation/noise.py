"""How much noise a signal-to-noise ratio (SNR) means.

SNR is the ratio of variances, signal to noise, within a box and after the missing
wedge. The signal of a class is that of one particle at the center of the box, averaged
over orientations.
"""

from __future__ import annotations

from statistics import fmean, median_low
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.errors import DataError
from napari_ectkd.events import Noted
from napari_ectkd.simulation.orientations import random_rotations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ectkd.events import Cancel
    from napari_ectkd.simulation.density import Density
    from napari_ectkd.simulation.imaging import Imaging
    from napari_ectkd.simulation.poses import Sampler

_N_ORIENTATIONS = 64
"""Orientations averaged over; the mean of a class is then good to 2 or 3 %."""
_BATCH = 16
_NOTED_OUTSIDE = 0.01
_MOST_OUTSIDE = 0.25


def check_fit(densities: Sequence[Density], box_px: int) -> Iterator[Noted]:
    """Yield a warning for each density that a box clips.

    Parameters
    ----------
    densities
        The classes.
    box_px
        Edge of the box in voxels.

    Raises
    ------
    DataError
        If more than a quarter of a density's mass is outside the box's sphere.
    """
    for density in densities:
        share = density.share_outside(box_px)
        width = 2 * density.radius / density.voxel_size
        text = (
            f"{density.name} is {width:.0f} voxels wide: {100 * share:.0f} % of its "
            f"mass lies outside the sphere that fits into a box of {box_px}"
        )
        if share > _MOST_OUTSIDE:
            raise DataError(f"{text}; take a larger box or voxel, or leave it out")
        if share > _NOTED_OUTSIDE:
            yield Noted(text=text, is_warning=True)


def signal_variances(
    samplers: dict[str, Sampler],
    box_px: int,
    imaging: Imaging,
    random: np.random.Generator,
    cancel: Cancel,
) -> dict[str, float]:
    """Return the signal variance of each class in a box, as it is reconstructed."""
    variances = {}
    for name, sampler in samplers.items():
        cancel.check()
        found = []
        for _ in range(_N_ORIENTATIONS // _BATCH):
            wide = torch.zeros(_BATCH, *[padded(box_px)] * 3, device=sampler.device)
            sampler.add_to(
                wide,
                np.arange(_BATCH),
                random_rotations(_BATCH, random),
                np.full((_BATCH, 3), padded(box_px) // 2.0),
            )
            signal = cropped(imaging.signal(wide), box_px)
            found.append(float(signal.var(dim=(1, 2, 3)).mean()))
        variances[name] = fmean(found)
    return variances


def noise_variance(variances: dict[str, float], snr: float) -> float:
    """Return the noise variance that gives the class of median signal an SNR.

    With an even number of classes it is the lower of the two in the middle, so that the
    SNR is that of a class.
    """
    return median_low(variances.values()) / snr


def padded(box_px: int) -> int:
    """Return the edge of the larger box in which the wedge is applied to signal.

    The streaks that a missing wedge draws leave the box, as they do in a tomogram, and
    do not come back in at its other side.
    """
    return 2 * (box_px - box_px // 4)


def cropped(volumes: torch.Tensor, box_px: int) -> torch.Tensor:
    """Return the middle of `(b, m, m, m)`: index m // 2 becomes box_px // 2."""
    start = volumes.shape[-1] // 2 - box_px // 2
    inside = slice(start, start + box_px)
    return volumes[:, inside, inside, inside]
