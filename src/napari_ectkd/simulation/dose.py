"""What the beam does to the specimen, and how few electrons pass a tilted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ELECTRON_MASS = 511.0
"""keV, at rest."""
_MEAN_FREE_PATH = 3100.0
"""Å, of inelastic scattering in vitreous ice at 300 kV; what has been measured lies
around 3,000."""


def signal_left(
    frequency: torch.Tensor, exposure: torch.Tensor, voltage: float
) -> torch.Tensor:
    """Return the share of the signal's amplitude that an exposure leaves.

    exp(−N / 2 Nc), where the critical exposure is Nc = 0.245 k^−1.665 + 2.81 at 300 kV.
    At other voltages it goes with the square of the electrons' speed: 0.8 at 200 kV.

    Parameters
    ----------
    frequency
        1/Å.
    exposure
        Electrons per Å² endured so far; broadcasts with the frequencies.
    voltage
        kV.

    References
    ----------
    Grant, Grigorieff (2015), eLife 4:e06980, DOI 10.7554/eLife.06980, equation 3.
    """
    # At zero frequency the critical exposure is infinite and all is left.
    critical = 0.245 * frequency.clamp(min=1e-6) ** -1.665 + 2.81
    return torch.exp(-exposure / (2 * critical * _speed_squared(voltage)))


def noise_of_tilts(
    angles_deg: NDArray[np.float64], thickness: float, voltage: float
) -> NDArray[np.float64]:
    """Return the variance of shot noise in tilted images; 1 is that of the untilted.

    Of the electrons that enter ice of thickness t at tilt θ, exp(−t / Λ cos θ) stay
    unscattered or elastic and pass an energy filter. Images are normalized by their
    mean, so that fewer electrons mean more noise.

    Parameters
    ----------
    angles_deg
        Degrees.
    thickness
        Å, of the ice.
    voltage
        kV.
    """
    path = thickness / (_MEAN_FREE_PATH * _speed_squared(voltage))
    variances: NDArray[np.float64] = np.exp(
        path * (1 / np.cos(np.radians(angles_deg)) - 1)
    )
    return variances


def _speed_squared(voltage: float) -> float:
    """Return the square of the electrons' speed, in units of that at 300 kV."""

    def squared(kilovolt: float) -> float:
        return 1 - (1 + kilovolt / _ELECTRON_MASS) ** -2

    return squared(voltage) / squared(300)
