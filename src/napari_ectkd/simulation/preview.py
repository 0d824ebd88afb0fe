"""What the subtomograms of a simulation look like: one of each class, in a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.io.picks import NONE
from napari_ectkd.simulation.config import SubtomogramSettings
from napari_ectkd.simulation.density import find_densities, load_densities
from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.noise import check_fit
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler
from napari_ectkd.simulation.simulator import Simulator, signal_level

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.events import Cancel
    from napari_ectkd.simulation.config import Simulation
    from napari_ectkd.simulation.density import Density

_NONES = 3
"""There are three ways to be none."""
_KEPT = 8
"""Sets of densities, and noise levels, that are kept for the next preview."""


@dataclass(frozen=True)
class Preview:
    """One subtomogram of each class.

    Attributes
    ----------
    classes
        Names; none last, if there.
    width_px
        Voxels across the particle of each class; 0 for none.
    snr
        Signal to noise of each class, ratio of variances; 0 for none.
    signal
        `(k, box, box, box)` zyx float32, reconstructed without noise.
    volumes
        The same with noise.
    warnings
        What the user should know, such as densities that the box clips.
    """

    classes: list[str]
    width_px: list[float]
    snr: list[float]
    signal: NDArray[np.float32] = field(repr=False)
    volumes: NDArray[np.float32] = field(repr=False)
    warnings: list[str] = field(default_factory=list)


def preview_subtomograms(config: Simulation, *, cancel: Cancel) -> Preview:
    """Return one subtomogram of each class, with and without noise.

    Of a tomogram's simulation they show what could be cropped from it, alone in the box
    and in its center.

    Parameters
    ----------
    config
        What to simulate. The same config gives the same voxels; poses are those of the
        seed, so that one sees what another setting changes.
    cancel
        Looked at between densities.

    Raises
    ------
    EctkdError
        As `load_densities` and `check_fit`.
    CancelledError
        If it was cancelled.
    """
    known = SubtomogramSettings.model_fields
    given = {name: value for name, value in config if name in known}
    given |= {"per_class": 1, "none": 0}
    if isinstance(config, SubtomogramSettings):
        given["none"] = _NONES * (config.none > 0)
    else:
        given |= {"off_center": 0.0}
    single = SubtomogramSettings.model_validate(given)

    files = find_densities(single.density).values()
    densities, samplers = _prepared(
        # An entry to download is no file, and stays as it is.
        tuple((f, f.stat().st_mtime_ns if f.exists() else 0) for f in files),
        single.voxel_size,
        single.resolution,
        single.assembly,
    )
    warnings = [event.text for event in check_fit(densities, single.box)]
    cancel.check()
    variances = _variances(densities, samplers, single, cancel)
    simulator = Simulator(single, densities, variances, samplers=samplers)
    n = len(densities)
    classes = np.r_[np.arange(n), np.full(single.none, -1)]
    made = []
    for some in simulator.make(classes, np.random.SeedSequence(single.seed)):
        cancel.check()
        made.append(some)
    signal = torch.cat([some.signal for some in made]).numpy()
    volumes = torch.cat([some.voxels for some in made]).numpy()
    shown = list(range(n))
    if single.none:
        # Of the three ways to be none one is empty and shows nothing.
        shown.append(n + int(signal[n:].var(axis=(1, 2, 3)).argmax()))
    n_none = len(shown) - n
    return Preview(
        [density.name for density in densities] + [NONE] * n_none,
        [2 * d.radius / d.voxel_size for d in densities] + [0.0] * n_none,
        list(simulator.snr.values()) + [0.0] * n_none,
        signal[shown],
        volumes[shown],
        warnings,
    )


@lru_cache(maxsize=_KEPT)
def _prepared(
    files: tuple[tuple[Path, int], ...],
    voxel_size: float,
    resolution: float | None,
    is_assembly: bool,
) -> tuple[tuple[Density, ...], tuple[Sampler, ...]]:
    """Return densities and their samplers, kept while the files stay as they are."""
    paths = [path for path, _ in files]
    densities = (
        load_densities(paths, voxel_size, resolution, is_assembly=is_assembly)
        if paths
        else phantoms(voxel_size)
    )
    return tuple(densities), tuple(Sampler(density) for density in densities)


_LEVELS: dict[tuple[object, ...], dict[str, float]] = {}


def _variances(
    densities: tuple[Density, ...],
    samplers: tuple[Sampler, ...],
    config: SubtomogramSettings,
    cancel: Cancel,
) -> dict[str, float]:
    """Return the signal variances, kept for settings that don't change them."""
    imaging = ImagingConfig.model_validate(
        {name: getattr(config, name) for name in ImagingConfig.model_fields}
    )
    key = (samplers, config.box, config.voxel_size, imaging.model_dump_json())
    if key not in _LEVELS:
        found = signal_level(config, densities, cancel, samplers)
        while len(_LEVELS) >= _KEPT:
            _LEVELS.pop(next(iter(_LEVELS)), None)
        _LEVELS[key] = found
    return _LEVELS[key]
