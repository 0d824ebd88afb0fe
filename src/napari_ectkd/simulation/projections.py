"""Projecting a slab at many tilts, and weighted back-projection, without interpolation.

The tilt axis is y and the beam runs along z (see `tilt`). A tilt by θ sums the planes
of a slab after moving the plane at height z by z tan θ along x:

    P(u, y) = Σ_z V(z, y, u − z tan θ),

where u = x' / cos θ is the image's own coordinate x', not foreshortened. Moving is a
factor exp(−2πi kx z tan θ) in Fourier space, so that the sum is the central slice
kz = kx tan θ, exactly; the reverse factor spreads an image over the planes again.
Between the two, component kx of an image has the frequency kx / cos θ.

Only the axis x is turned, so each frequency along y stands for itself: whoever is short
of memory passes few at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import fft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_KY_AT_ONCE = 16
_SIRT_LOWEST = 1 / 512
"""Per pixel, the lowest frequency of an image of usual size."""


class Shears:
    """The geometry of some tilts through a slab.

    Parameters
    ----------
    angles_deg
        `(i,)` degrees, none near ±90.
    n_z
        Planes of the slab; the middle one, n_z // 2, lies on the tilt axis.
    n_x
        Voxels along x of the slab.
    device
        Where the work is done.

    Attributes
    ----------
    n_u
        Pixels of an image along u: as many as the tilted slab needs not to reach over
        one border and into the other.
    """

    def __init__(
        self,
        angles_deg: NDArray[np.float64],
        n_z: int,
        n_x: int,
        device: torch.device,
    ) -> None:
        tangents = np.tan(np.radians(angles_deg))
        self.n_z, self.n_x = n_z, n_x
        needed = n_x + int(np.ceil(n_z * np.abs(tangents).max()))
        self.n_u = int(fft.next_fast_len(needed))
        kx = np.fft.fftfreq(self.n_u)
        heights = np.arange(n_z) - n_z // 2
        moves = kx[:, None, None] * tangents[:, None] * heights
        phases = np.exp(-2j * np.pi * moves).astype(np.complex64)
        self._phases = torch.from_numpy(phases).to(device)

    def project(self, slab: torch.Tensor, planes: slice = slice(None)) -> torch.Tensor:
        """Return the images of a slab.

        Parameters
        ----------
        slab
            `(u, z, ky)`, transformed along x (padded to n_u) and y; its planes are
            those that `planes` names.
        planes
            Which of all planes these are.

        Returns
        -------
        images
            `(u, i, ky)`, transformed as well.
        """
        return torch.bmm(self._phases[:, :, planes], slab)

    def spread(self, images: torch.Tensor) -> torch.Tensor:
        """Return the slab `(u, z, ky)` with images `(u, i, ky)` spread over it."""
        return torch.bmm(self._phases.conj().transpose(1, 2), images)


def ramp(n_u: int, angles_deg: NDArray[np.float64], step_deg: float) -> torch.Tensor:
    """Return the weights `(n_u, i)` that make of back-projection a reconstruction.

    |kx| Δθ / cos² θ: the share of Fourier space that each point of a slice stands for,
    so that, where tilts are dense, a density comes back as it was. Zero frequency
    stands for what is nearer to it than to the next one.
    """
    kx = np.maximum(np.abs(np.fft.fftfreq(n_u)), 0.25 / n_u)
    weights = np.radians(step_deg) / np.cos(np.radians(angles_deg)) ** 2
    return torch.from_numpy(kx[:, None] * weights)


def sirt_like(frequency_px: torch.Tensor, iterations: int) -> torch.Tensor:
    """Return what of each frequency SIRT has found after some iterations, as a filter.

    Projecting what was back-projected without weights multiplies a frequency k by
    1 / k. An iteration that explains all of the lowest frequency of an image, c, so
    explains c / k of what is unexplained of another: 1 − (1 − c / k)^n after n.

    Parameters
    ----------
    frequency_px
        Per pixel, across the tilt axis.
    iterations
        n, at least 1.
    """
    part = _SIRT_LOWEST / frequency_px.abs().clamp(min=_SIRT_LOWEST)
    found: torch.Tensor = 1 - (1 - part) ** iterations
    return found


def parts(n_ky: int) -> Iterator[slice]:
    """Yield the frequencies along y in parts that need little memory."""
    for start in range(0, n_ky, _KY_AT_ONCE):
        yield slice(start, min(start + _KY_AT_ONCE, n_ky))
