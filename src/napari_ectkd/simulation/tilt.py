"""The missing wedge: what a limited tilt range does not see.

The tilt axis is y and the beam runs along z. A projection at tilt θ sees the specimen
along its own horizontal axis x' = x cos θ + z sin θ, so that it fills the plane
kz = kx tan θ of Fourier space (central slice theorem): a component at the angle
atan(kz / kx) is known if that angle lies within the tilt range. This fixes the sign of
ranges that are not symmetric.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOLERANCE_DEG = 1e-6
"""Components that lie on the edge of the range count as seen."""


def wedge_mask(
    shape: tuple[int, int, int], tilt_range: tuple[float, float]
) -> NDArray[np.bool_]:
    """Return which Fourier components a tilt range sees.

    Parameters
    ----------
    shape
        Voxels along z, y, x; voxels are cubes.
    tilt_range
        Degrees, lowest and highest tilt, within -90 to 90.

    Returns
    -------
    mask
        `(z, y, x // 2 + 1)` as `rfftn` of a volume of that shape. The mean (zero
        frequency) is kept, and opposite components are kept or dropped together.
    """
    low, high = tilt_range
    kz = np.fft.fftfreq(shape[0])[:, None]
    kx = np.fft.fftfreq(shape[2])[None, :]
    angle = np.degrees(np.arctan2(kz, kx))
    angle = np.where(angle > 90, angle - 180, np.where(angle < -90, angle + 180, angle))
    is_seen = (angle >= low - _TOLERANCE_DEG) & (angle <= high + _TOLERANCE_DEG)
    # On the kz axis +90° and -90° are the same plane.
    is_seen |= (kx == 0) & (
        (low <= -90 + _TOLERANCE_DEG) | (high >= 90 - _TOLERANCE_DEG)
    )
    is_seen[0, 0] = True
    # At the Nyquist frequency of an even size -1/2 stands for +1/2 too.
    opposite = np.roll(is_seen[::-1, ::-1], 1, axis=(0, 1))
    is_seen &= opposite
    half = is_seen[:, None, : shape[2] // 2 + 1]
    return np.broadcast_to(half, (shape[0], shape[1], half.shape[2])).copy()


@lru_cache(maxsize=64)
def wedge_share(shape: tuple[int, int, int], tilt_range: tuple[float, float]) -> float:
    """Return the share of a volume's Fourier components that a tilt range sees.

    It is also the share of the variance of white noise that the wedge leaves.
    """
    mask = wedge_mask(shape, tilt_range)
    weights = np.full(mask.shape[2], 2.0)  # each stands for its opposite too ...
    weights[0] = 1
    if shape[2] % 2 == 0:
        weights[-1] = 1  # ... but for the two planes that hold both
    return float((mask * weights).sum() / np.prod(shape))


@lru_cache(maxsize=4)
def _mask_on(
    device: torch.device, shape: tuple[int, int, int], tilt_range: tuple[float, float]
) -> torch.Tensor:
    """Return the mask for any frequency along y, `(z, 1, x // 2 + 1, 1)` float32."""
    mask = wedge_mask(shape, tilt_range)[:, :1, :, None].astype(np.float32)
    return torch.from_numpy(mask).to(device)


def apply_wedge(volumes: torch.Tensor, tilt_range: tuple[float, float]) -> torch.Tensor:
    """Return volumes without the Fourier components that a tilt range misses.

    Parameters
    ----------
    volumes
        `(..., z, y, x)`, real.
    tilt_range
        Degrees, lowest and highest tilt.
    """
    z, y, x = volumes.shape[-3:]
    mask = _mask_on(volumes.device, (z, y, x), tilt_range)
    # The tilt axis is y: the wedge is the same for each frequency along it, so that
    # transforming along it would change nothing.
    spectrum = torch.fft.rfftn(volumes, dim=(-3, -1))
    # By components: torch would make complex numbers of the mask.
    torch.view_as_real(spectrum).mul_(mask)
    seen: torch.Tensor = torch.fft.irfftn(spectrum, s=(z, x), dim=(-3, -1))
    return seen
