"""The contrast transfer function (CTF), by torch-ctf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from napari_ectkd.simulation.imaging_config import ImagingConfig

_MICROMETER = 1e4  # Å


@dataclass(frozen=True)
class Optics:
    """What of the microscope shapes the contrast.

    Attributes
    ----------
    voltage
        kV.
    spherical_aberration
        mm.
    amplitude_contrast
        Share of the contrast.
    defocus
        Å of underfocus at the middle of the specimen.
    """

    voltage: float
    spherical_aberration: float
    amplitude_contrast: float
    defocus: float

    @classmethod
    def of(cls, config: ImagingConfig) -> Optics:
        """Return the optics of a config."""
        return cls(
            config.voltage,
            config.spherical_aberration,
            config.amplitude_contrast,
            config.defocus * _MICROMETER,
        )

    @property
    def wavelength(self) -> float:
        """Å, of the electrons."""
        from torch_ctf import calculate_relativistic_electron_wavelength

        return float(calculate_relativistic_electron_wavelength(1e3 * self.voltage)) * (
            1e10
        )

    def transfer(
        self, frequency_squared: torch.Tensor, defocus: torch.Tensor | float
    ) -> torch.Tensor:
        """Return the CTF, sin(π λ Δ k² − π/2 Cs λ³ k⁴ + arcsin A).

        It is positive at low frequencies in underfocus: with protein bright, as in a
        micrograph of inverted contrast, protein stays bright.

        Parameters
        ----------
        frequency_squared
            1/Å², squares of spatial frequencies.
        defocus
            Å of underfocus; broadcasts with the frequencies.
        """
        from torch_ctf import calculate_total_phase_shift

        def number(value: float) -> torch.Tensor:
            return torch.tensor(value, dtype=frequency_squared.dtype)

        phase = calculate_total_phase_shift(
            defocus_um=torch.as_tensor(defocus, dtype=frequency_squared.dtype)
            / _MICROMETER,
            voltage_kv=number(self.voltage),
            spherical_aberration_mm=number(self.spherical_aberration),
            phase_shift_degrees=number(0.0),
            amplitude_contrast_fraction=number(self.amplitude_contrast),
            fftfreq_grid_angstrom_squared=frequency_squared,
        )
        return -torch.sin(phase)
