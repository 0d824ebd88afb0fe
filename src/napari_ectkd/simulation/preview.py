"""What the subtomograms of a simulation look like: one of each class, in a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.density import find_densities, load_densities
from napari_ectkd.simulation.imaging import make_imaging, torch_generator
from napari_ectkd.simulation.imaging_config import ImagingConfig
from napari_ectkd.simulation.noise import (
    check_fit,
    cropped,
    noise_variance,
    padded,
    signal_variances,
)
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler
from napari_ectkd.simulation.scenes import draw_scenes

if TYPE_CHECKING:
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
    known = SubtomogramSimulation.model_fields
    given = {name: value for name, value in config if name in known}
    given |= {"out": Path("preview"), "per_class": 1, "none": 0}
    if isinstance(config, SubtomogramSimulation):
        given["none"] = _NONES * (config.none > 0)
    else:
        given |= {"off_center": 0.0}
    single = SubtomogramSimulation.model_validate(given)

    files = find_densities(single.density)
    densities, samplers = _prepared(
        tuple((path, path.stat().st_mtime_ns) for path in files.values()),
        single.voxel_size,
        single.resolution,
        single.assembly,
    )
    warnings = [event.text for event in check_fit(densities, single.box)]
    cancel.check()
    for_scenes, for_imaging, for_noise = np.random.default_rng(single.seed).spawn(3)
    variances = _variances(densities, samplers, single, cancel)
    level = noise_variance(variances, single.snr)

    classes = np.r_[np.arange(len(densities)), np.full(single.none, -1)]
    scenes = draw_scenes(single, densities, classes, for_scenes)
    # Of the three ways to be none, one is empty and shows nothing.
    shown = [*range(len(densities)), *([scenes.scene.max()] if single.none else [])]
    wide = scenes.render(0, len(scenes), list(samplers), padded(single.box))[shown]
    cancel.check()
    imaging = make_imaging(single, for_imaging)
    signal = cropped(imaging.signal(wide), single.box)
    noise = imaging.noise((single.box,) * 3, torch_generator(for_noise), len(shown))
    levels = torch.full((len(shown),), level)
    snr = [variances[density.name] / level for density in densities]
    if single.noise == "per-particle":
        own = signal.var(dim=(1, 2, 3)) / single.snr
        levels[: len(densities)] = own[: len(densities)]
        snr = [single.snr] * len(densities)
    volumes = signal + levels.sqrt()[:, None, None, None] * noise
    n_none = len(shown) - len(densities)
    return Preview(
        [scenes.labels[index] for index in shown],
        [2 * d.radius / d.voxel_size for d in densities] + [0.0] * n_none,
        snr + [0.0] * n_none,
        signal.numpy(),
        volumes.numpy(),
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
    config: SubtomogramSimulation,
    cancel: Cancel,
) -> dict[str, float]:
    """Return the signal variances, kept for settings that don't change them."""
    imaging = ImagingConfig.model_validate(
        {name: getattr(config, name) for name in ImagingConfig.model_fields}
    )
    key = (samplers, config.box, config.voxel_size, imaging.model_dump_json())
    if key not in _LEVELS:
        by_name = {d.name: s for d, s in zip(densities, samplers, strict=True)}
        random = np.random.default_rng(config.seed)
        made = make_imaging(config)
        found = signal_variances(by_name, config.box, made, random, cancel)
        while len(_LEVELS) >= _KEPT:
            _LEVELS.pop(next(iter(_LEVELS)), None)
        _LEVELS[key] = found
    return _LEVELS[key]
