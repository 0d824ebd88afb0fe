"""What a microscope and a crowded cell do to a subtomogram, on a batch's device.

Noise, a filter such as another defocus leaves, and neighbors hidden by cut-outs. Noise
has the spectrum of the data, missing wedge and all, and the filter only weakens what is
there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_AXES = (-3, -2, -1)


def noise_spectrum(volumes: Tensor) -> Tensor:
    """Return the amplitudes of noise as the data has it, for `spectral_noise`.

    At the signal-to-noise ratios of cryo-ET the mean power of the data is that of its
    noise, missing wedge, filters and all, whether or not the tilt range is known.

    Parameters
    ----------
    volumes
        `(b, 1, n, n, n)`, a hundred or so of the data.

    Returns
    -------
    Tensor
        `(n, n, n//2 + 1)`, scaled so that the noise has variance 1; 0 at frequency 0.
    """
    power = torch.fft.rfftn(volumes[:, 0].float(), dim=_AXES).abs().square().mean(dim=0)
    power[0, 0, 0] = 0
    size = volumes.shape[-1]
    # Each frequency of the half spectrum stands for its conjugate too, but for the
    # planes that are their own.
    weight = torch.full_like(power, 2.0)
    weight[..., 0] = 1
    if size % 2 == 0:
        weight[..., -1] = 1
    mean = (power * weight).sum() / size**3
    spectrum: Tensor = (power / mean.clamp_min(1e-20)).sqrt()
    return spectrum


def spectral_noise(spectrum: Tensor, seeds: Tensor) -> Tensor:
    """Return `(b, 1, n, n, n)` Gaussian noise of a spectrum, on the spectrum's device.

    Parameters
    ----------
    spectrum
        From `noise_spectrum`.
    seeds
        `(b,)`; the same seed gives the same noise, on devices of the same kind.
    """
    size = spectrum.shape[0]
    generator = torch.Generator(device=spectrum.device)
    white = torch.stack(
        [
            torch.randn(
                (size,) * 3,
                generator=generator.manual_seed(int(seed)),
                device=spectrum.device,
            )
            for seed in seeds
        ]
    )
    shaped = torch.fft.rfftn(white, dim=_AXES) * spectrum
    noise: Tensor = torch.fft.irfftn(shaped, s=(size,) * 3, dim=_AXES)
    return noise[:, None]


def defocus_gain(frequency: Tensor, depth: Tensor, phase: Tensor) -> Tensor:
    """Return what another defocus leaves of a frequency's amplitude, 1 − depth to 1.

    Parameters
    ----------
    frequency
        As a share of the Nyquist frequency.
    depth
        0 to 1.
    phase
        Radians at the Nyquist frequency; the argument of a contrast transfer function
        grows with the square of the frequency.
    """
    return 1 - depth * torch.sin(phase * frequency**2) ** 2


def filter_defocus(volumes: Tensor, drawn: Tensor) -> Tensor:
    """Return volumes with rings of frequencies weakened, as by another defocus.

    Parameters
    ----------
    volumes
        `(b, 1, n, n, n)`.
    drawn
        `(b, 2)` depth and phase, see `defocus_gain`.
    """
    size = volumes.shape[-1]
    full = torch.fft.fftfreq(size, 0.5, device=volumes.device)
    half = torch.fft.rfftfreq(size, 0.5, device=volumes.device)
    frequency = (
        full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    ).sqrt()
    depth, phase = drawn.to(volumes)[:, :, None, None, None].unbind(dim=1)
    gain = defocus_gain(frequency, depth, phase)
    spectrum = torch.fft.rfftn(volumes[:, 0].float(), dim=_AXES)
    filtered: Tensor = torch.fft.irfftn(spectrum * gain, s=(size,) * 3, dim=_AXES)
    return filtered[:, None]


class Neighbor:
    """A ball beside the particle, where in a crowded tomogram another one would be."""

    radius = (0.12, 0.25)
    """Smallest and largest, in boxes."""
    free = 0.25
    """Radius around the box's center that no ball reaches into, in boxes."""

    @classmethod
    def draw(cls, n: int, share: float, generator: torch.Generator) -> Tensor:
        """Return `(n, 4)` centers zyx from the box's center and radii, in boxes.

        Parameters
        ----------
        n
            Subtomograms.
        share
            Of them that get a ball; the others get one of radius 0.
        generator
            On the CPU.
        """
        low, high = cls.radius
        radius = low + (high - low) * torch.rand(n, generator=generator)
        direction = torch.randn(n, 3, generator=generator)
        direction /= direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
        # From where it just leaves the center free to the middle of a face.
        near = cls.free + radius
        distance = near + (0.5 - near).clamp_min(0) * torch.rand(n, generator=generator)
        radius[torch.rand(n, generator=generator) >= share] = 0
        return torch.cat([direction * distance[:, None], radius[:, None]], dim=1)


def cut_out(volumes: Tensor, neighbors: Tensor, noise: Tensor) -> Tensor:
    """Return volumes with a ball replaced by noise of the volume's mean and deviation.

    Parameters
    ----------
    volumes
        `(b, 1, n, n, n)`.
    neighbors
        `(b, 4)` from `Neighbor.draw`.
    noise
        `(b, 1, n, n, n)` of variance 1.
    """
    size = volumes.shape[-1]
    offset = (torch.arange(size, device=volumes.device) - size // 2) / size
    drawn = neighbors.to(volumes)
    center, radius = drawn[:, :3], drawn[:, 3:]
    z, y, x = ((offset - center[:, :, None]) ** 2).unbind(dim=1)
    square = z[:, :, None, None] + y[:, None, :, None] + x[:, None, None, :]
    is_ball = (square < radius[:, :, None, None] ** 2)[:, None]
    mean = volumes.mean(dim=_AXES, keepdim=True)
    deviation = volumes.std(dim=_AXES, keepdim=True)
    return torch.where(is_ball, mean + deviation * noise, volumes)
