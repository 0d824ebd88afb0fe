"""Variation of a batch that physics leaves as likely as the original.

A reconstruction lacks the wedge of directions that were not tilted to. A rotation of a
subtomogram rotates its missing wedge along, which no real subtomogram has: free
rotations would teach the network a wedge that is not there, and mirror images a
molecule of the wrong hand. What remains are rotations by 180°: about the tilt axis y
always, about z and x where the tilt range is symmetric. The other two can be switched
on to see what they do.

All happens on the batch's device. What is drawn at random is drawn on the CPU and for
the whole batch at once, so that a part of a batch (of one of several devices, or of a
batch too large for the memory) is varied as it would be in the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_ectkd.dataset.degrade import (
    Neighbor,
    cut_out,
    filter_defocus,
    spectral_noise,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ectkd.dataset.config import AugmentConfig

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


def move(volumes: Tensor, signs: Tensor, shifts: Tensor) -> Tensor:
    """Return volumes, each with axes reversed about the center n//2, then shifted.

    Parameters
    ----------
    volumes
        `(b, 1, n, n, n)`, on any device.
    signs
        `(b, 3)` direction of the axes z, y, x: 1 or −1.
    shifts
        `(b, 3)` whole voxels. What leaves on one side comes in on the other, so that
        the noise there stays noise.
    """
    size = volumes.shape[-1]
    # Voxel i of the result comes from voxel s (i − c − shift) + c of the original.
    offset = torch.arange(size) - size // 2
    source = signs[:, :, None] * (offset - shifts[:, :, None]) + size // 2
    z, y, x = (source % size).to(volumes.device).unbind(dim=1)
    batch = torch.arange(volumes.shape[0], device=volumes.device)[:, None, None, None]
    moved: Tensor = volumes[
        batch, 0, z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]
    ]
    return moved[:, None]


def turn(volumes: Tensor, matrices: Tensor) -> Tensor:
    """Return volumes turned about their center n//2, interpolated linearly.

    Parameters
    ----------
    volumes
        `(b, 1, n, n, n)`.
    matrices
        `(b, 3, 3)` rotations of zyx vectors. Beyond the edge the volume is mirrored.
    """
    size = volumes.shape[-1]
    offset = torch.arange(size, device=volumes.device, dtype=volumes.dtype) - size // 2
    grid = torch.stack(torch.meshgrid(offset, offset, offset, indexing="ij"), dim=-1)
    inverse = matrices.to(volumes).transpose(1, 2)
    source = torch.einsum("bij,zyxj->bzyxi", inverse, grid) + size // 2
    # grid_sample wants xyz, and −1 to 1 from the first voxel's center to the last's.
    return functional.grid_sample(
        volumes,
        2 * source.flip(-1) / (size - 1) - 1,
        padding_mode="reflection",
        align_corners=True,
    )


def random_rotations(n: int, generator: torch.Generator) -> Tensor:
    """Return `(n, 3, 3)` rotations, uniform over all orientations.

    References
    ----------
    Shoemake (1992), Uniform random rotations, Graphics Gems III, 124–132.
    """
    w, x, y, z = functional.normalize(torch.randn(n, 4, generator=generator)).T
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=1).reshape(n, 3, 3)


@dataclass(frozen=True, eq=False)
class Draws:
    """What was drawn for each of n subtomograms; None for what is switched off.

    Attributes
    ----------
    signs, shifts
        `(n, 3)`, for `move`.
    turns
        `(n, 3, 3)`, for `turn`.
    contrast
        `(n,)` factors.
    defocus
        `(n, 2)` depth and phase, for `filter_defocus`.
    noise
        `(n,)` standard deviations of the noise to add.
    neighbors
        `(n, 4)` center zyx and radius of a ball to cut out, in boxes; radius 0: none.
    seeds
        `(n,)` of the noise, one each, so that a part of a batch has the same.
    """

    signs: Tensor
    shifts: Tensor
    turns: Tensor | None = None
    contrast: Tensor | None = None
    defocus: Tensor | None = None
    noise: Tensor | None = None
    neighbors: Tensor | None = None
    seeds: Tensor | None = None

    def __getitem__(self, part: slice) -> Draws:
        """Return the draws of a part of the subtomograms."""
        found: dict[str, Tensor] = {
            f.name: value[part]
            for f in fields(self)
            if (value := getattr(self, f.name)) is not None
        }
        return Draws(**found)


class Augmentation:
    """Varies batches as the settings say.

    Parameters
    ----------
    config
        What is on, and how strong.
    tilt_range
        Degrees, of the data; decides which rotations are possible.
    spectrum
        `(n, n, n//2 + 1)` amplitudes of noise as the data has it, from
        `noise_spectrum`; needed for added noise and for cut-outs.
    """

    def __init__(
        self,
        config: AugmentConfig,
        tilt_range: tuple[float, float] | None,
        spectrum: Tensor | None = None,
    ) -> None:
        self._config = config
        rotations = wedge_rotations(tilt_range) if config.rotations else (IDENTITY,)
        self._signs = torch.tensor(rotations)
        if config.mirror:
            self._signs = torch.cat(
                [self._signs, self._signs * torch.tensor([1, 1, -1])]
            )
        if (config.noise or config.cutout) and spectrum is None:
            raise ValueError("added noise and cut-outs need the noise's spectrum")
        self._spectrum = spectrum

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """Return what happens to each of n subtomograms.

        Parameters
        ----------
        n
            Subtomograms in the whole batch.
        generator
            On the CPU, so that the same seed draws the same on each device.
        """
        config = self._config

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator)

        chosen = torch.randint(len(self._signs), (n,), generator=generator)
        most = config.shift
        shifts = torch.randint(-most, most + 1, (n, 3), generator=generator)
        drawn: dict[str, Tensor] = {}
        if config.free_rotations:
            drawn["turns"] = random_rotations(n, generator)
        if config.contrast:
            drawn["contrast"] = (1 + config.contrast) ** (2 * uniform(n) - 1)
        if config.defocus:
            drawn["defocus"] = uniform(n, 2) * torch.tensor(
                [config.defocus, 2 * torch.pi]
            )
        if config.noise:
            drawn["noise"] = config.noise * uniform(n)
        if config.cutout:
            drawn["neighbors"] = Neighbor.draw(n, config.cutout, generator)
        if config.noise or config.cutout:
            drawn["seeds"] = torch.randint(2**62, (n,), generator=generator)
        return Draws(self._signs[chosen], shifts, **drawn)

    def apply(self, volumes: Tensor, draws: Draws) -> Tensor:
        """Return `(b, 1, n, n, n)` volumes, each varied as it was drawn."""
        varied = volumes
        if draws.turns is not None:
            varied = turn(varied, draws.turns)
        varied = move(varied, draws.signs, draws.shifts)
        if draws.defocus is not None:
            varied = filter_defocus(varied, draws.defocus)
        if draws.contrast is not None:
            varied = varied * draws.contrast.to(varied)[:, None, None, None, None]
        if draws.seeds is not None and self._spectrum is not None:
            noise = spectral_noise(self._spectrum.to(varied.device), draws.seeds)
            if draws.noise is not None:
                varied = varied + draws.noise.to(varied)[:, None, None, None, None] * (
                    noise
                )
            if draws.neighbors is not None:
                # The same noise may serve: it is not where the ball is, but for it.
                varied = cut_out(varied, draws.neighbors, noise)
        return varied

    def __call__(self, volumes: Tensor, generator: torch.Generator) -> Tensor:
        """Return `(b, 1, n, n, n)` volumes varied at random."""
        return self.apply(volumes, self.draw(len(volumes), generator))
