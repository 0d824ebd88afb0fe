"""Variation of a batch that physics leaves as likely as the original.

A reconstruction lacks the wedge of directions that were not tilted to. A rotation of a
subtomogram rotates its missing wedge along, which no real subtomogram has: free
rotations would teach the network a wedge that is not there, and mirror images a
molecule of the wrong hand. What remains are rotations by 180°: about the tilt axis y
always, about z and x where the tilt range is symmetric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Signs = tuple[int, int, int]
"""Direction of the axes z, y, x: the diagonal of a rotation by 180° (or of none)."""

IDENTITY: Signs = (1, 1, 1)
ABOUT_TILT_AXIS: Signs = (-1, 1, -1)
_SYMMETRIC: tuple[Signs, ...] = (IDENTITY, ABOUT_TILT_AXIS, (1, -1, -1), (-1, -1, 1))


def wedge_rotations(tilt_range: tuple[float, float] | None) -> tuple[Signs, ...]:
    """Return the rotations that leave the missing wedge where it is.

    Parameters
    ----------
    tilt_range
        Degrees, lowest and highest tilt about y. A range that is not known counts as
        asymmetric; one symmetric within 3° as symmetric.
    """
    if tilt_range is None or abs(tilt_range[0] + tilt_range[1]) > 3:
        return (IDENTITY, ABOUT_TILT_AXIS)
    return _SYMMETRIC


def rotate(volumes: Tensor, signs: Signs) -> Tensor:
    """Return `(b, 1, n, n, n)` volumes rotated by 180° about their center, n//2."""
    axes = [axis for axis, sign in zip((2, 3, 4), signs, strict=True) if sign < 0]
    flipped = volumes.flip(axes)
    if volumes.shape[-1] % 2 == 0 and axes:
        flipped = flipped.roll([1] * len(axes), axes)
    return flipped


def augment(
    volumes: Tensor,
    rotations: tuple[Signs, ...],
    shift_px: int,
    generator: torch.Generator,
) -> Tensor:
    """Return volumes, each rotated by one of the rotations and shifted at random.

    Parameters
    ----------
    volumes
        `(b, 1, n, n, n)`, on any device.
    rotations
        From `wedge_rotations`.
    shift_px
        Largest shift along each axis, in voxels. What leaves on one side comes in on
        the other, so that the noise there stays noise.
    generator
        On the CPU, so that the same seed gives the same batch on each device.
    """
    n_batch, size = volumes.shape[0], volumes.shape[-1]
    chosen = torch.randint(len(rotations), (n_batch,), generator=generator)
    signs = torch.tensor(rotations)[chosen]
    shifts = torch.randint(-shift_px, shift_px + 1, (n_batch, 3), generator=generator)
    # Voxel i of the result comes from voxel s (i − c − shift) + c of the original.
    offset = torch.arange(size) - size // 2
    source = signs[:, :, None] * (offset - shifts[:, :, None]) + size // 2
    z, y, x = (source % size).to(volumes.device).unbind(dim=1)
    batch = torch.arange(n_batch, device=volumes.device)[:, None, None, None]
    varied: Tensor = volumes[
        batch, 0, z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]
    ]
    return varied[:, None]
