"""A tilt series and its reconstruction: `--noise projections`.

Signal: the density is projected at each tilt; the CTF, radiation damage and the
detector shape the image; weighted back-projection puts the images together. Noise is
made in the images and reconstructed with them. See docs/simulation.md.

A cube is taken for a box that is cut from a larger reconstruction: there all of the
above is linear and nearly the same everywhere, so that one transfer function (the
transform of the image of a point) does it. Any other shape is a tomogram, whose tilt
series is computed (`tomogram_imaging`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.simulation.projections import Shears, parts
from napari_ectkd.simulation.tilt_images import TiltImages
from napari_ectkd.simulation.tomogram_imaging import image_tomogram, tomogram_noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_ectkd.simulation.imaging_config import ImagingConfig
    from napari_ectkd.simulation.tilt_images import Components
    from napari_ectkd.simulation.tilt_scheme import TiltSeries


@dataclass(frozen=True)
class Place:
    """Where in the specimen a box lies, in Å from the middle."""

    z: float = 0.0
    y: float = 0.0
    x: float = 0.0


class ProjectionImaging:
    """A tilt series of a microscope and its weighted back-projection; see `Imaging`.

    Parameters
    ----------
    config
        Microscope, tilt series and reconstruction; spreads are not looked at.
    voxel_size
        Å.
    place
        Where boxes lie: a tilt brings them nearer to focus, or farther from it.
    """

    def __init__(
        self, config: ImagingConfig, voxel_size: float, place: Place | None = None
    ) -> None:
        self._voxel_size = voxel_size
        self._place = place or Place()
        self._images = TiltImages(config, voxel_size)
        self._transfers: dict[int, torch.Tensor] = {}
        self._amplitudes: dict[int, torch.Tensor] = {}

    def signal(self, volumes: torch.Tensor) -> torch.Tensor:
        """Return reconstructions of densities; see `Imaging`."""
        z, y, x = volumes.shape[-3:]
        if not z == y == x:
            size = self._voxel_size
            return torch.stack([image_tomogram(self._images, v, size) for v in volumes])
        if z not in self._transfers:
            self._transfers[z] = self._box_transfer(z)
        return _filtered(volumes, self._transfers[z])

    def noise(
        self, shape: tuple[int, int, int], generator: torch.Generator, n: int = 1
    ) -> torch.Tensor:
        """Return reconstructions of what is in the images by chance; see `Imaging`."""
        z, y, x = shape
        if not z == y == x:
            made = [
                tomogram_noise(self._images, shape, self._voxel_size, generator)
                for _ in range(n)
            ]
            return torch.stack(made)
        if z not in self._amplitudes:
            self._amplitudes[z] = self._box_noise(z)
        white = torch.randn((n, *shape), generator=generator, device=generator.device)
        return _filtered(white, self._amplitudes[z])

    def _box_transfer(self, n: int) -> torch.Tensor:
        """Return `(n, n, n // 2 + 1)` what components of a box are multiplied by."""

        def imaged(series: TiltSeries, components: Components) -> torch.Tensor:
            transfer = self._images.transfer(components, *self._defocus(series))
            return components.weight * transfer * self._images.contrast(components)

        # Symmetric but for the border, so that the transform is real but for that.
        transfer: torch.Tensor = torch.fft.rfftn(self._of_a_point(n, imaged)).real
        return transfer.contiguous()

    def _box_noise(self, n: int) -> torch.Tensor:
        """Return the amplitudes of noise: those a box cut from a tomogram has."""

        def power(series: TiltSeries, components: Components) -> torch.Tensor:
            defocus, _ = self._defocus(series)
            return self._images.noise_power(series, components, [defocus])

        covariance = self._of_a_point(2 * n, power)
        # Long lags are rare in a box. So weighted, the transform is the periodogram
        # that is expected, which is never negative.
        rare = 1 - 2 * torch.fft.fftfreq(2 * n).abs()
        covariance = covariance * rare[:, None, None] * rare[:, None] * rare
        periodogram = torch.fft.rfftn(covariance).real[::2, ::2, ::2].clamp(min=0)
        amplitudes: torch.Tensor = (periodogram / covariance[0, 0, 0]).sqrt()
        return amplitudes.contiguous()

    def _defocus(self, series: TiltSeries) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `(i, 1)` Å, the defocus of the box, and that assumed of it.

        Who flips phases takes the specimen for a sheet without height.
        """
        angles = np.radians(series.angles_deg)
        place = self._place
        across = place.x if series.axis == "y" else place.y
        height = place.z * np.cos(angles) - across * np.sin(angles)
        defocus = torch.from_numpy(self._images.optics.defocus + height)[:, None]
        return defocus, defocus - torch.from_numpy(place.z / np.cos(angles))[:, None]

    def _of_a_point(
        self, n: int, filters: Callable[[TiltSeries, Components], torch.Tensor]
    ) -> torch.Tensor:
        """Return what filtered back-projection makes of a point at index 0 of a cube.

        Parameters
        ----------
        n
            Edge of the cube. What leaves it does not come in on the other side.
        filters
            Gives `(u, i, ky)` what the images' components are multiplied by.
        """
        total = torch.zeros(n, n, n)
        for series in self._images.series:
            shears = Shears(series.angles_deg, n, n, torch.device("cpu"))
            middle = shears.n_u // 2
            k = np.fft.fftfreq(shears.n_u)
            at_middle = torch.from_numpy(np.exp(-2j * np.pi * k * middle))
            slab = torch.empty(n, n, n // 2 + 1, dtype=torch.complex64)  # (z, x, ky)
            for columns in parts(n // 2 + 1):
                components = self._images.components(series, shears, n, columns)
                images = filters(series, components) * at_middle[:, None, None]
                spread = shears.spread(images.to(torch.complex64))
                rows = torch.fft.ifft(spread, dim=0)[middle - n // 2 :][:n]
                slab[:, :, columns] = rows.transpose(0, 1)
            point = torch.fft.irfft(slab, n=n, dim=2)
            point = torch.roll(point, (-(n // 2), -(n // 2)), dims=(0, 1))
            # About x, the axes x and y change places.
            total += point.transpose(1, 2) if series.axis == "y" else point
        return total


def _filtered(volumes: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """Return `(b, n, n, n)` with their components multiplied."""
    shape = volumes.shape[-3:]
    spectrum = torch.fft.rfftn(volumes, dim=(-3, -2, -1))
    spectrum *= filters.to(volumes.device)
    filtered: torch.Tensor = torch.fft.irfftn(spectrum, s=shape, dim=(-3, -2, -1))
    return filtered
