"""Which tilts are taken, in which order, and what the specimen has endured by then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.simulation.imaging_config import ImagingConfig


@dataclass(frozen=True)
class TiltSeries:
    """The images of one tilt series, in the order they are taken.

    Attributes
    ----------
    axis
        The tilt axis, y or x.
    angles_deg
        `(n,)` degrees.
    exposures
        `(n,)` electrons per Å² that the specimen has endured by the middle of each.
    step_deg
        Degrees between neighboring tilts.
    """

    axis: str
    angles_deg: NDArray[np.float64]
    exposures: NDArray[np.float64]
    step_deg: float


def tilt_series(config: ImagingConfig) -> list[TiltSeries]:
    """Return the one or two tilt series of a config; a second one is about x."""
    angles = tilt_angles(config.tilt_range, config.tilt_step)
    if config.tilt_scheme == "dose-symmetric":
        angles = dose_symmetric(angles)
    n = len(angles)
    return [
        TiltSeries(
            axis,
            angles,
            (n * k + np.arange(n, dtype=np.float64) + 0.5) * config.dose,
            config.tilt_step,
        )
        for k, axis in enumerate("yx" if config.dual_axis else "y")
    ]


def tilt_angles(tilt_range: tuple[float, float], step: float) -> NDArray[np.float64]:
    """Return the tilts of a range in degrees, from the lowest upwards.

    They are multiples of the step if that is possible; else they fill the range evenly
    from its middle.
    """
    low, high = tilt_range
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    n = int(np.floor((high - low) / step + 1e-9)) + 1
    if last - first + 1 >= n:
        return np.arange(first, last + 1, dtype=np.float64) * step
    middle = (low + high) / 2
    return middle + (np.arange(n, dtype=np.float64) - (n - 1) / 2) * step


def dose_symmetric(angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return tilts in the dose-symmetric order.

    From the one nearest to zero outwards, changing the side after each pair: 0, 3, -3,
    -6, 6, 9, -9, … Where one side ends the other goes on.

    References
    ----------
    Hagen, Wan, Briggs (2017), J. Struct. Biol. 197:191, DOI 10.1016/j.jsb.2016.06.007.
    """
    ascending = np.sort(angles_deg)
    start = int(np.argmin(np.abs(ascending)))
    up, down = list(ascending[start + 1 :]), list(ascending[:start][::-1])
    order = [ascending[start]]
    sides = (up, down)
    while up or down:
        for side in sides:
            if side:
                order.append(side.pop(0))
        sides = sides[::-1]
    return np.array(order)
