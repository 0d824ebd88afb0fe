"""A tilt series and its reconstruction: `--noise projections`.

Signal: the density is projected at each tilt; the CTF, radiation damage and the
detector shape the image; weighted back-projection puts the images together. Noise is
made in the images and reconstructed with them. See docs/simulation.md.

A cube is taken for a box cut from the middle of a larger reconstruction: all of the
above is linear and the same everywhere in it, so that one transfer function (the
transform of the image of a point) does it. Any other shape is a tomogram, whose tilt
series is computed; there the defocus differs from place to place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.simulation.ctf import Optics
from napari_ectkd.simulation.detector import modulation
from napari_ectkd.simulation.dose import noise_of_tilts, signal_left
from napari_ectkd.simulation.projections import Shears, ramp
from napari_ectkd.simulation.tilt_scheme import tilt_series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.simulation.imaging_config import ImagingConfig
    from napari_ectkd.simulation.tilt_scheme import TiltSeries

_KY_AT_ONCE = 16
_STRUCTURE_GRID = 256


@dataclass(frozen=True)
class Place:
    """Where a box lies in the specimen: Å from its middle, along z and across."""

    z: float = 0.0
    across: float = 0.0


class ProjectionImaging:
    """A tilt series of a microscope and its weighted back-projection; see `Imaging`.

    Parameters
    ----------
    config
        Microscope, tilt series and reconstruction, with no spreads left to draw.
    voxel_size
        Å.
    place
        Where boxes lie; their defocus is that of this place.
    """

    def __init__(
        self, config: ImagingConfig, voxel_size: float, place: Place | None = None
    ) -> None:
        self._config = config
        self._voxel_size = voxel_size
        self._place = place or Place()
        self._optics = Optics.of(config)
        self._series = tilt_series(config)
        self._structure = self._structure_level()
        self._transfers: dict[tuple, torch.Tensor] = {}

    def signal(self, volumes: torch.Tensor) -> torch.Tensor:
        """Return reconstructions of densities; see `Imaging`."""
        shape = (volumes.shape[-3], volumes.shape[-2], volumes.shape[-1])
        if _is_box(shape):
            transfer = self._box_transfer(shape[0]).to(volumes.device)
            spectrum = torch.fft.rfftn(volumes, dim=(-3, -2, -1)).mul_(transfer)
            seen: torch.Tensor = torch.fft.irfftn(spectrum, s=shape, dim=(-3, -2, -1))
            return seen
        return torch.stack([self._image_tomogram(volume) for volume in volumes])

    def noise(
        self, shape: tuple[int, int, int], generator: torch.Generator, n: int = 1
    ) -> torch.Tensor:
        """Return reconstructions of what is in the images by chance; see `Imaging`."""
        if _is_box(shape):
            white = torch.randn(
                (n, *shape), generator=generator, device=generator.device
            )
            amplitude = self._box_noise(shape[0]).to(generator.device)
            spectrum = torch.fft.rfftn(white, dim=(-3, -2, -1)).mul_(amplitude)
            made: torch.Tensor = torch.fft.irfftn(spectrum, s=shape, dim=(-3, -2, -1))
            return made
        return torch.stack([self._tomogram_noise(shape, generator) for _ in range(n)])

    # What a tilt does to one component of an image.

    def _filters(
        self, series: TiltSeries, shears: Shears, n_y: int, columns: slice
    ) -> _Filters:
        """Return what the images of a series are multiplied by, for some ky."""
        cosines = torch.from_numpy(np.cos(np.radians(series.angles_deg)))[:, None]
        kx = torch.from_numpy(np.fft.fftfreq(shears.n_u))[:, None, None] / cosines
        ky = torch.from_numpy(np.fft.rfftfreq(n_y))[columns]
        squared = kx**2 + ky**2  # (u, i, ky), per pixel of the detector
        weight = ramp(shears.n_u, series.angles_deg, series.step_deg)[:, :, None]
        weight = weight * (kx.abs() <= 0.5)
        if len(self._series) == 2:
            weight = weight * self._share_of_axis(series, shears, ky)
        left = self._left(series, squared)
        if self._config.dose_weighting:
            weight = weight * left
        return _Filters(squared / self._voxel_size**2, weight, left, cosines)

    def _share_of_axis(
        self, series: TiltSeries, shears: Shears, ky: torch.Tensor
    ) -> torch.Tensor:
        """Return 1/2 for what the tilts about the other axis see too, else 1."""
        tangents = torch.from_numpy(np.tan(np.radians(series.angles_deg)))[:, None]
        kx = torch.from_numpy(np.fft.fftfreq(shears.n_u))[:, None, None]
        kz = kx * tangents
        # Opposite components are the same one.
        angle = torch.rad2deg(torch.atan2(kz * ky.sign(), ky.abs()))
        low, high = self._config.tilt_range
        half = series.step_deg / 2
        seen = (angle >= low - half) & (angle <= high + half) & (ky != 0)
        return 1 - 0.5 * seen

    def _left(self, series: TiltSeries, squared: torch.Tensor) -> torch.Tensor:
        frequency = squared.sqrt() / self._voxel_size
        voltage = self._config.voltage
        return torch.stack(
            [
                signal_left(frequency[:, i], exposure, voltage)
                for i, exposure in enumerate(series.exposures)
            ],
            dim=1,
        )

    def _contrast(
        self, squared: torch.Tensor, defocus: torch.Tensor | float
    ) -> torch.Tensor:
        """Return what of the density's contrast is in an image, and of which sign."""
        if self._config.ctf == "none":
            transfer = torch.ones_like(squared)
        else:
            transfer = self._optics.transfer(squared, defocus)
        if self._config.ctf == "phase-flipped":
            transfer = transfer.abs()
        frequency = squared.sqrt() * self._voxel_size
        return transfer * modulation(frequency, self._config.mtf)

    def _structure_level(self) -> float:
        """Return the power of the ice that gives it its share in an untilted image."""
        k = torch.fft.fftfreq(_STRUCTURE_GRID, dtype=torch.float64) / self._voxel_size
        squared = k[:, None] ** 2 + k**2
        seen = self._contrast(squared, self._optics.defocus) ** 2
        return self._config.structural_noise / float(seen.mean())

    def _noise_power(self, series: TiltSeries, filters: _Filters) -> torch.Tensor:
        """Return the power `(u, i, ky)` of the images' noise, after weighting."""
        shot = noise_of_tilts(
            series.angles_deg, self._config.thickness, self._config.voltage
        )
        power = (1 - self._config.structural_noise) * torch.from_numpy(shot)[:, None]
        contrast = self._contrast(filters.squared, self._box_defocus(series))
        # A tilted slab is thicker along the beam.
        ice = self._structure * (contrast * filters.left) ** 2 / filters.cosines
        # White per pixel of x' is white per pixel of u times cos θ, as u is longer.
        return filters.weight**2 * filters.cosines * (power + ice)

    def _box_defocus(self, series: TiltSeries) -> torch.Tensor:
        """Return `(i, 1)` the defocus in Å of each tilt, where boxes lie."""
        angles = np.radians(series.angles_deg)
        height = self._place.z * np.cos(angles) - self._place.across * np.sin(angles)
        return torch.from_numpy(self._optics.defocus + height)[:, None]

    # Boxes.

    def _box_transfer(self, n: int) -> torch.Tensor:
        key = ("signal", n)
        if key not in self._transfers:
            point = sum(self._point(n, series, "signal") for series in self._series)
            transfer = torch.fft.rfftn(point).real
            self._transfers[key] = transfer.float().contiguous()
        return self._transfers[key]

    def _box_noise(self, n: int) -> torch.Tensor:
        """Return the amplitude of noise: the root of a crop's expected periodogram."""
        key = ("noise", n)
        if key not in self._transfers:
            covariance = sum(self._point(2 * n, s, "noise") for s in self._series)
            # Lags that are long are rare in a small box.
            lag = torch.fft.fftfreq(2 * n).abs() * 2 * n
            rare = 1 - lag / n
            covariance = covariance * rare[:, None, None] * rare[:, None] * rare
            power = torch.fft.rfftn(covariance).real[::2, ::2, ::2].clamp(min=0)
            power = power / covariance[0, 0, 0]
            self._transfers[key] = power.sqrt().float().contiguous()
        return self._transfers[key]

    def _point(self, n: int, series: TiltSeries, what: str) -> torch.Tensor:
        """Return the image of a point at index 0 of a cube, or the noise's covariance.

        Parameters
        ----------
        n
            Edge of the cube. What would leave it does not come in on the other side.
        series
            About either axis.
        what
            signal or noise.
        """
        cpu = torch.device("cpu")
        shears = Shears(series.angles_deg, n, n, cpu)
        n_ky = n // 2 + 1
        slab = torch.empty(n, n, n_ky, dtype=torch.complex64)
        middle = shears.n_u // 2
        at_middle = torch.from_numpy(
            np.exp(-2j * np.pi * np.fft.fftfreq(shears.n_u) * middle)
        ).to(torch.complex64)[:, None, None]
        for columns in _parts(n_ky):
            filters = self._filters(series, shears, n, columns)
            if what == "noise":
                images = self._noise_power(series, filters)
            else:
                contrast = self._contrast(filters.squared, self._box_defocus(series))
                images = filters.weight * contrast * filters.left
            spread = shears.spread(images.to(torch.complex64) * at_middle)
            rows = torch.fft.ifft(spread, dim=0)[middle - n // 2 :][:n]
            slab[:, :, columns] = rows.transpose(0, 1)  # (z, x, ky)
        point = torch.fft.irfft(slab, n=n, dim=2)  # (z, x, y)
        point = torch.roll(point, (-(n // 2), -(n // 2)), dims=(0, 1))
        return point.transpose(1, 2) if series.axis == "y" else point

    # Tomograms.

    def _image_tomogram(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction `(z, y, x)` of a slab."""
        total = torch.zeros_like(volume)
        for series in self._series:
            turned = volume if series.axis == "y" else volume.transpose(1, 2)
            n_z, n_y, n_x = turned.shape
            shears = Shears(series.angles_deg, n_z, n_x, volume.device)
            spectrum = torch.fft.rfft(turned, dim=1)  # (z, ky, x)
            for columns in _parts(spectrum.shape[1]):
                block = torch.fft.fft(spectrum[:, columns], n=shears.n_u, dim=2)
                block = block.permute(2, 0, 1).contiguous()  # (u, z, ky)
                filters = self._filters(series, shears, n_y, columns)
                contrast = self._contrast(filters.squared, self._box_defocus(series))
                images = shears.project(block)
                images *= (filters.weight * contrast * filters.left).float()
                block = torch.fft.ifft(shears.spread(images), dim=0)[:n_x]
                spectrum[:, columns] = block.permute(1, 2, 0)
            seen = torch.fft.irfft(spectrum, n=n_y, dim=1)
            total += seen if series.axis == "y" else seen.transpose(1, 2)
        return total

    def _tomogram_noise(
        self, shape: tuple[int, int, int], generator: torch.Generator
    ) -> torch.Tensor:
        """Return the reconstruction `(z, y, x)` of images of noise, of variance 1."""
        device = generator.device
        total, variance = torch.zeros(shape, device=device), 0.0
        for series in self._series:
            n_z, n_y, n_x = (
                shape if series.axis == "y" else (shape[0], shape[2], shape[1])
            )
            shears = Shears(series.angles_deg, n_z, n_x, device)
            white = torch.randn(
                (len(series.angles_deg), shears.n_u, n_y),
                generator=generator,
                device=device,
            )
            images = torch.fft.rfft2(white, dim=(1, 2)).transpose(0, 1)
            spectrum = torch.empty(
                n_z, n_y // 2 + 1, n_x, dtype=torch.complex64, device=device
            )
            for columns in _parts(n_y // 2 + 1):
                filters = self._filters(series, shears, n_y, columns)
                power = self._noise_power(series, filters)
                twice = _twice(n_y)[columns]
                variance += float((power * twice).sum()) / (shears.n_u * n_y)
                part = images[:, :, columns] * power.sqrt().float().to(device)
                block = torch.fft.ifft(shears.spread(part), dim=0)[:n_x]
                spectrum[:, columns] = block.permute(1, 2, 0)
            made = torch.fft.irfft(spectrum, n=n_y, dim=1)
            total += made if series.axis == "y" else made.transpose(1, 2)
        return total.div_(variance**0.5)


@dataclass(frozen=True)
class _Filters:
    """`(u, i, ky)`: squared frequencies in 1/Å², weights, and what signal is left."""

    squared: torch.Tensor
    weight: torch.Tensor
    left: torch.Tensor
    cosines: torch.Tensor


def _is_box(shape: tuple[int, int, int]) -> bool:
    return shape[0] == shape[1] == shape[2]


def _parts(n: int) -> Iterator[slice]:
    for start in range(0, n, _KY_AT_ONCE):
        yield slice(start, min(start + _KY_AT_ONCE, n))


def _twice(n_y: int) -> torch.Tensor:
    """Return how many components each of a real image's `rfft` stands for."""
    twice = torch.full((n_y // 2 + 1,), 2.0, dtype=torch.float64)
    twice[0] = 1
    if n_y % 2 == 0:
        twice[-1] = 1
    return twice
