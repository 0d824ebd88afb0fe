"""The tilt series of a whole tomogram, whose defocus differs from place to place.

At a tilt θ a point at (x, z) from the middle is higher by z cos θ − x sin θ than the
middle, and so much more out of focus. In an image's own coordinate u = x + z tan θ that
is z / cos θ − u sin θ: it follows from where in the image the point is seen, and from
the plane it lies in. So a tomogram is cut into slabs that are thin enough to have one
height; each slab's image is shared out among a few levels of defocus, in proportion
to how near they are; and each level gets a CTF of its own.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.simulation.projections import Shears, parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ectkd.simulation.tilt_images import Components, TiltImages
    from napari_ectkd.simulation.tilt_scheme import TiltSeries

_LEVEL_PHASE = 0.5
"""Radians at the Nyquist frequency between two levels of defocus: interpolated between
them, a sine is good to 0.5² / 8, which is 3 %."""
_SLAB_PHASE = 0.3
"""Radians at the Nyquist frequency between the faces of a slab."""
_DEFOCI_OF_NOISE = 5


def image_tomogram(
    images: TiltImages, volume: torch.Tensor, voxel_size: float
) -> torch.Tensor:
    """Return the reconstruction of a tomogram without noise.

    Parameters
    ----------
    images
        The tilt series.
    volume
        `(z, y, x)` densities. Outside of it the specimen is empty.
    voxel_size
        Å.
    """
    total = torch.zeros_like(volume)
    for series in images.series:
        turned = volume if series.axis == "y" else volume.transpose(1, 2)
        n_z, n_y, n_x = turned.shape
        shears = Shears(series.angles_deg, n_z, n_x, volume.device)
        levels = _Levels(images, series, shears, voxel_size)
        spectrum = torch.fft.rfft(turned, dim=1)  # (z, ky, x)
        for columns in parts(n_y // 2 + 1):
            block = torch.fft.fft(spectrum[:, columns], n=shears.n_u, dim=2)
            components = images.components(series, shears, n_y, columns)
            made = levels.images(block.permute(2, 0, 1).contiguous(), components)
            filters = components.weight * images.contrast(components)
            made *= filters.float().to(volume.device)
            block = torch.fft.ifft(shears.spread(made), dim=0)[:n_x]
            spectrum[:, columns] = block.permute(1, 2, 0)
        seen = torch.fft.irfft(spectrum, n=n_y, dim=1)
        total += seen if series.axis == "y" else seen.transpose(1, 2)
    return total


def tomogram_noise(
    images: TiltImages,
    shape: tuple[int, int, int],
    voxel_size: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the reconstruction `(z, y, x)` of images of noise, of variance 1.

    Parameters
    ----------
    images
        The tilt series.
    shape
        Voxels along z, y, x.
    voxel_size
        Å.
    generator
        Where all draws come from; the noise is made on its device.
    """
    device = generator.device
    total, variance = torch.zeros(shape, device=device), 0.0
    for series in images.series:
        n_z, n_y, n_x = shape if series.axis == "y" else (shape[0], shape[2], shape[1])
        shears = Shears(series.angles_deg, n_z, n_x, device)
        n_ky, n_tilts = n_y // 2 + 1, len(series.angles_deg)
        white = torch.randn(
            (n_tilts, shears.n_u, n_y), generator=generator, device=device
        )
        noise = torch.fft.rfft2(white, dim=(1, 2)).transpose(0, 1)
        del white
        sines = torch.from_numpy(np.sin(np.radians(series.angles_deg)))[:, None]
        across = np.linspace(-0.5, 0.5, _DEFOCI_OF_NOISE) * n_x * voxel_size
        defoci = [images.optics.defocus - x * sines for x in across]
        # Of a real image, each component but those of these two stands for another.
        stands_for = torch.full((n_ky,), 2.0, dtype=torch.float64)
        stands_for[0] = 1
        if n_y % 2 == 0:
            stands_for[-1] = 1
        spectrum = torch.empty(n_z, n_ky, n_x, dtype=torch.complex64, device=device)
        for columns in parts(n_ky):
            components = images.components(series, shears, n_y, columns)
            power = images.noise_power(series, components, defoci)
            variance += float((power * stands_for[columns]).sum()) / (shears.n_u * n_y)
            made = noise[:, :, columns] * power.sqrt().float().to(device)
            block = torch.fft.ifft(shears.spread(made), dim=0)[:n_x]
            spectrum[:, columns] = block.permute(1, 2, 0)
        seen = torch.fft.irfft(spectrum, n=n_y, dim=1)
        total += seen if series.axis == "y" else seen.transpose(1, 2)
    return total.div_(variance**0.5)


class _Levels:
    """The defocus of each place in the images of a tomogram, in a few levels."""

    def __init__(
        self, images: TiltImages, series: TiltSeries, shears: Shears, voxel_size: float
    ) -> None:
        self._images, self._shears = images, shears
        angles = np.radians(series.angles_deg)
        phase = np.pi * images.optics.wavelength * (0.5 / voxel_size) ** 2  # per Å
        self._step = _LEVEL_PHASE / phase
        thinnest = np.cos(angles).min() * _SLAB_PHASE / phase
        n_slabs = int(np.ceil(shears.n_z * voxel_size / thinnest))
        n_slabs = min(n_slabs, shears.n_z) if images.has_ctf else 1
        edges = np.linspace(0, shears.n_z, n_slabs + 1).round().astype(int)
        self._slabs = [slice(a, b) for a, b in itertools.pairwise(edges)]
        # Images reach as far beyond one border as beyond the other.
        beyond = (shears.n_u - shears.n_x) // 2
        u = (np.arange(shears.n_u) + beyond) % shears.n_u - beyond - shears.n_x // 2
        self._flat = -np.sin(angles)[:, None] * u * voxel_size  # (i, u) Å
        middles = (edges[:-1] + edges[1:] - 1) / 2 - shears.n_z // 2
        self._slab_heights = middles[:, None] * voxel_size / np.cos(angles)  # (s, i)

    def images(self, block: torch.Tensor, components: Components) -> torch.Tensor:
        """Return the images `(u, i, ky)` of a slab `(u, z, ky)`, after the CTF."""
        if not self._images.has_ctf:
            return self._shears.project(block)
        shown = [
            torch.fft.ifft(self._shears.project(block[:, planes], planes), dim=0)
            for planes in self._slabs
        ]
        made = torch.empty_like(shown[0])
        for i in range(made.shape[1]):
            squared = components.squared[:, i]
            heights = [self._flat[i] + heights[i] for heights in self._slab_heights]
            image = self._by_level([part[:, i] for part in shown], heights, squared)
            if self._images.is_flipped:
                seen = torch.fft.ifft(image, dim=0)
                image = self._by_level([seen], [self._flat[i]], squared, is_flip=True)
            made[:, i] = image
        return made

    def _by_level(
        self,
        parts_of_image: list[torch.Tensor],
        heights: list[NDArray[np.float64]],
        squared: torch.Tensor,
        *,
        is_flip: bool = False,
    ) -> torch.Tensor:
        """Return an image `(u, ky)`, transformed, after each place's CTF, or its sign.

        Its parts `(u, ky)` are transformed along y; their heights `(u,)` are in Å.
        """
        positions = [height / self._step for height in heights]
        first = int(np.floor(min(p.min() for p in positions)))
        last = int(np.ceil(max(p.max() for p in positions)))
        total = torch.zeros_like(parts_of_image[0])
        for level in range(first, last + 1):
            near = [np.clip(1 - np.abs(p - level), 0, 1) for p in positions]
            if not any(weights.any() for weights in near):
                continue
            at_level = sum(
                torch.from_numpy(weights[:, None]).to(part) * part
                for part, weights in zip(parts_of_image, near, strict=True)
            )
            defocus = self._images.optics.defocus + level * self._step
            transfer = self._images.optics.transfer(squared, defocus)
            transfer = transfer.sign() if is_flip else transfer
            total += torch.fft.fft(at_level, dim=0) * transfer.to(total)
        return total
