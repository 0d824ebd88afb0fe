"""What a tilted image shows of a specimen, and the weight it has in a reconstruction.

Images are handled transformed, as `(u, i, ky)`: the frequencies of all tilts i of a
series, in the geometry of `projections`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.simulation.ctf import Optics
from napari_ectkd.simulation.detector import modulation
from napari_ectkd.simulation.dose import noise_of_tilts, signal_left
from napari_ectkd.simulation.projections import ramp, sirt_like
from napari_ectkd.simulation.tilt_scheme import tilt_series

if TYPE_CHECKING:
    from napari_ectkd.simulation.imaging_config import ImagingConfig
    from napari_ectkd.simulation.projections import Shears
    from napari_ectkd.simulation.tilt_scheme import TiltSeries

_STRUCTURE_GRID = 256
"""Frequencies along an axis for the mean power of the ice; any large number does."""


@dataclass(frozen=True)
class Components:
    """Some components of the images of a series, float64 on the CPU.

    Attributes
    ----------
    squared
        `(u, i, ky)` squares of their frequencies, 1/Å².
    left
        `(u, i, ky)` share of the density's amplitude that the beam has left.
    weight
        `(u, i, ky)` what reconstruction multiplies them by.
    cosines
        `(i, 1)` of the tilts.
    """

    squared: torch.Tensor
    left: torch.Tensor
    weight: torch.Tensor
    cosines: torch.Tensor


class TiltImages:
    """The images of a config's tilt series.

    Parameters
    ----------
    config
        Microscope, tilt series and reconstruction.
    voxel_size
        Å.

    Attributes
    ----------
    series
        One, or two about different axes.
    optics
        The microscope's.
    has_ctf, is_flipped
        Whether there is a CTF, and whether it is corrected by phase flipping.
    """

    def __init__(self, config: ImagingConfig, voxel_size: float) -> None:
        self._config = config
        self._voxel_size = voxel_size
        self.series = tilt_series(config)
        self.optics = Optics.of(config)
        self.has_ctf = config.ctf != "none"
        self.is_flipped = config.ctf == "phase-flipped"

    def components(
        self, series: TiltSeries, shears: Shears, n_y: int, columns: slice
    ) -> Components:
        """Return some components of a series.

        Parameters
        ----------
        series
            One of ours.
        shears
            Its geometry.
        n_y
            Pixels along the tilt axis.
        columns
            Which of the n_y // 2 + 1 frequencies along it.
        """
        config = self._config
        cosines = torch.from_numpy(np.cos(np.radians(series.angles_deg)))[:, None]
        kx = torch.from_numpy(np.fft.fftfreq(shears.n_u))[:, None, None] / cosines
        ky = torch.from_numpy(np.fft.rfftfreq(n_y))[columns]
        squared = (kx**2 + ky**2) / self._voxel_size**2
        exposures = torch.from_numpy(series.exposures)[:, None]
        left = signal_left(squared.sqrt(), exposures, config.voltage)
        weight = ramp(shears.n_u, series.angles_deg, series.step_deg)[:, :, None]
        if config.sirt_iterations:
            weight = weight * sirt_like(kx, config.sirt_iterations)
        # What is beyond the Nyquist frequency of the detector is not seen.
        weight = weight * (kx.abs() <= 0.5)
        if len(self.series) == 2:
            weight = weight * self._share_of_axis(series, shears, ky)
        if config.dose_weighting:
            weight = weight * left
        return Components(squared, left, weight, cosines)

    def transfer(
        self, components: Components, defocus: torch.Tensor, assumed: torch.Tensor
    ) -> torch.Tensor:
        """Return the CTF, with the signs that correction turns about.

        Parameters
        ----------
        components
            `(u, i, ky)` of them.
        defocus
            `(i, 1)` Å.
        assumed
            `(i, 1)` Å, the defocus by which the phases are flipped.
        """
        if not self.has_ctf:
            return torch.ones_like(components.squared)
        transfer = self.optics.transfer(components.squared, defocus)
        if self.is_flipped:
            flips = self.optics.transfer(components.squared, assumed)
            transfer = torch.where(flips < 0, -transfer, transfer)
        return transfer

    def contrast(self, components: Components) -> torch.Tensor:
        """Return what else multiplies a projected density: damage and detector."""
        return components.left * self._modulation(components.squared)

    def noise_power(
        self, series: TiltSeries, components: Components, defoci: list[torch.Tensor]
    ) -> torch.Tensor:
        """Return the power `(u, i, ky)` of the images' noise, weighted.

        It is scaled to white noise of variance 1 in an untilted image, per pixel of u.
        Flipped phases of noise are as random as they were.

        Parameters
        ----------
        series, components
            The images.
        defoci
            `(i, 1)` Å each; the power of the ice is averaged over them.
        """
        share, config = self._config.structural_noise, self._config
        shot = noise_of_tilts(series.angles_deg, config.thickness, config.voltage)
        power = (1 - share) * torch.from_numpy(shot)[:, None]
        squares = [self.transfer(components, d, d) ** 2 for d in defoci]
        seen = torch.stack(squares).mean(dim=0) * self.contrast(components) ** 2
        # A tilted slab is thicker along the beam.
        power = power + self._ice * seen / components.cosines
        # A pixel of u is cos θ of one of the detector, and shares its noise.
        return components.weight**2 * components.cosines * power

    @cached_property
    def _ice(self) -> float:
        """The power of the ice that gives it its share in an untilted image."""
        k = torch.fft.fftfreq(_STRUCTURE_GRID, dtype=torch.float64) / self._voxel_size
        squared = k[:, None] ** 2 + k**2
        seen = self._modulation(squared)
        if self.has_ctf:
            seen = seen * self.optics.transfer(squared, self.optics.defocus)
        return self._config.structural_noise / float((seen**2).mean())

    def _modulation(self, squared: torch.Tensor) -> torch.Tensor:
        return modulation(squared.sqrt() * self._voxel_size, self._config.mtf)

    def _share_of_axis(
        self, series: TiltSeries, shears: Shears, ky: torch.Tensor
    ) -> torch.Tensor:
        """Return 1/2 for what the tilts about the other axis see too, else 1."""
        tangents = torch.from_numpy(np.tan(np.radians(series.angles_deg)))[:, None]
        kx = torch.from_numpy(np.fft.fftfreq(shears.n_u))[:, None, None]
        # ky is not negative: that of opposite components stands for both.
        angle = torch.rad2deg(torch.atan2(kx * tangents, ky))
        half = series.step_deg / 2
        low, high = series.angles_deg.min() - half, series.angles_deg.max() + half
        is_shared = (angle >= low) & (angle <= high) & (ky != 0)
        shares: torch.Tensor = 1 - 0.5 * is_shared.double()
        return shares
