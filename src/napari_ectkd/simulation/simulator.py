"""Makes subtomograms as the settings say, on any device, as many as are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.simulation.density import load_densities
from napari_ectkd.simulation.imaging import make_imaging, torch_generator
from napari_ectkd.simulation.noise import (
    cropped,
    noise_variance,
    padded,
    signal_variances,
)
from napari_ectkd.simulation.orientations import relion_angles
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler
from napari_ectkd.simulation.scenes import draw_scenes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_ectkd.events import Cancel
    from napari_ectkd.simulation.config import SubtomogramSettings
    from napari_ectkd.simulation.density import Density
    from napari_ectkd.simulation.imaging import Imaging
    from napari_ectkd.simulation.scenes import Scenes

_MOST_VOXELS = {"cpu": 2**21, "cuda": 2**26}
"""Of a batch, padded: on a CPU the intermediate arrays of more leave the caches, on a
GPU each of so many takes 256 MB."""
_MOST = {"cpu": 16, "cuda": 64}
"""Subtomograms in a batch."""
_PER_IMAGING = 64
"""Subtomograms imaged alike where imaging is drawn: it takes time to prepare."""


@dataclass(frozen=True, eq=False)
class Made:
    """Some subtomograms.

    Attributes
    ----------
    voxels
        `(b, box, box, box)` float32, on the simulator's device.
    signal
        The same without noise.
    labels
        `(b,)` class names.
    columns
        By name of the STAR column, `(b,)`: pose, in RELION's convention.
    """

    voxels: torch.Tensor
    signal: torch.Tensor
    labels: list[str]
    columns: dict[str, NDArray[np.float64]]


class Simulator:
    """Makes subtomograms.

    A subtomogram is the density of its particle (and of neighbors) in a random pose,
    imaged, plus noise. Its pose is `rlnAngleRot`, `rlnAngleTilt`, `rlnAnglePsi` in
    degrees (density to particle, see `poses`) and `rlnOriginXAngst`, `rlnOriginYAngst`,
    `rlnOriginZAngst`, the Å that would bring it to the center (RELION's sign); all 0
    for none.

    Parameters
    ----------
    config
        What is in a subtomogram.
    densities
        The classes.
    variances
        Of the signal of each class, from `signal_level`.
    device
        Where subtomograms are made.
    samplers
        Of the densities, on that device, if they are there already.

    Attributes
    ----------
    snr
        By class, with the imaging and the SNR in the middle of their ranges.
    is_drawn
        Whether subtomograms are not all imaged alike: imaging is prepared by the CPU.
    """

    def __init__(
        self,
        config: SubtomogramSettings,
        densities: Sequence[Density],
        variances: dict[str, float],
        device: torch.device | None = None,
        samplers: Sequence[Sampler] | None = None,
    ) -> None:
        self._config = config
        self._densities = densities
        self._device = device or torch.device("cpu")
        self._samplers = samplers or [Sampler(d, self._device) for d in densities]
        self._variances = np.array(list(variances.values()))
        self._level = noise_variance(variances, config.snr)
        self._is_common = config.noise != "per-particle"
        self.snr = {
            name: v / self._level if self._is_common else config.snr
            for name, v in variances.items()
        }
        self.is_drawn = _is_drawn(config)
        self._imaging = None if self.is_drawn else make_imaging(config)

    def make(
        self, classes: NDArray[np.int64], seed: np.random.SeedSequence
    ) -> Iterator[Made]:
        """Yield subtomograms in batches, all draws from one seed.

        Parameters
        ----------
        classes
            `(n,)` index of the density of each; -1 for none.
        seed
            Streams are spawned from it for scenes, noise and imaging: another SNR
            leaves poses and noise as they are.
        """
        config = self._config
        for_scenes, for_noise, for_imaging = map(np.random.default_rng, seed.spawn(3))
        scenes = draw_scenes(config, self._densities, classes, for_scenes)
        # Where there is no particle to scale the noise to, it is that of any class.
        of_any = for_scenes.choice(self._variances / config.snr, size=len(classes))
        levels = np.where(self._is_common, self._level, of_any)
        snr_factors = _factors(config.snr_spread, len(classes), for_scenes)
        gray_factors = _factors(config.contrast_spread, len(classes), for_scenes)
        generator = torch_generator(for_noise, self._device)
        imaging, size = self._imaging, self._batch_size()
        for start in range(0, len(classes), size):
            if self._imaging is None and start % _PER_IMAGING == 0:
                imaging = make_imaging(config, for_imaging)
            assert imaging is not None
            part = slice(start, min(start + size, len(classes)))
            signal = self._signal(imaging, scenes, part)
            variance = self._on_device(levels[part])
            if not self._is_common:
                own = signal.var(dim=(1, 2, 3)) / config.snr
                has_particle = self._on_device(scenes.main[part] >= 0)
                variance = torch.where(has_particle > 0, own, variance)
            variance = variance / self._on_device(snr_factors[part])
            shape = (config.box,) * 3
            noise = imaging.noise(shape, generator, part.stop - start)
            volumes = signal.addcmul(noise, _over_voxels(variance.sqrt()))
            if config.contrast_spread > 1:
                volumes *= _over_voxels(self._on_device(gray_factors[part]))
            columns = self._columns(scenes, part)
            yield Made(volumes, signal, scenes.labels[part], columns)

    def _signal(self, imaging: Imaging, scenes: Scenes, part: slice) -> torch.Tensor:
        box = self._config.box
        wide = scenes.render(part.start, part.stop, self._samplers, padded(box))
        return cropped(imaging.signal(wide), box)

    def _batch_size(self) -> int:
        kind = self._device.type
        fitting = _MOST_VOXELS[kind] // padded(self._config.box) ** 3
        # A power of two, so that imaging is drawn at the start of a batch.
        return 1 << min(max(fitting, 1), _MOST[kind]).bit_length() - 1

    def _on_device(self, values: NDArray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)

    def _columns(self, scenes: Scenes, part: slice) -> dict[str, NDArray[np.float64]]:
        main = scenes.main[part]
        angles, origins = np.zeros((len(main), 3)), np.zeros((len(main), 3))
        is_particle = main >= 0
        rows = main[is_particle]
        angles[is_particle] = relion_angles(scenes.rotation[rows])
        origins[is_particle] = -scenes.shift_px[rows] * self._config.voxel_size
        return {
            "rlnAngleRot": angles[:, 0],
            "rlnAngleTilt": angles[:, 1],
            "rlnAnglePsi": angles[:, 2],
            "rlnOriginXAngst": origins[:, 2],
            "rlnOriginYAngst": origins[:, 1],
            "rlnOriginZAngst": origins[:, 0],
        }


def densities_of(config: SubtomogramSettings) -> list[Density]:
    """Return the densities that the settings name.

    Raises
    ------
    EctkdError
        As `load_densities`.
    """
    if not config.density:
        return phantoms(config.voxel_size)
    return load_densities(
        config.density,
        config.voxel_size,
        config.resolution,
        is_assembly=config.assembly,
    )


def signal_level(
    config: SubtomogramSettings,
    densities: Sequence[Density],
    cancel: Cancel,
    samplers: Sequence[Sampler] | None = None,
) -> dict[str, float]:
    """Return the variance of each class's signal, imaged as in the middle of ranges.

    Parameters
    ----------
    config, densities, cancel
        What is simulated; `cancel` is looked at once per class.
    samplers
        Of the densities, if they are there already.
    """
    # No spawn key: shards and streams have one.
    random = np.random.default_rng(np.random.SeedSequence(config.seed))
    known = samplers or [Sampler(density) for density in densities]
    by_name = {d.name: s for d, s in zip(densities, known, strict=True)}
    return signal_variances(by_name, config.box, make_imaging(config), random, cancel)


def _is_drawn(config: SubtomogramSettings) -> bool:
    """Return whether subtomograms are not all imaged alike."""
    spreads = (
        config.tilt_range_spread,
        config.defocus_spread,
        config.dose_spread,
    )
    is_random = config.noise == "projections" or config.ctf == "random"
    return any(spreads) or is_random


def _factors(spread: float, n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return `(n,)` factors between 1 / spread and spread, log-uniform."""
    factors: NDArray[np.float64] = spread ** random.uniform(-1, 1, n)
    return factors


def _over_voxels(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]
