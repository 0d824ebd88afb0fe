"""Data sets of single subtomograms whose classes are known."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.events import Finished, Noted, Progress, Saved
from napari_ectkd.io.picks import NONE
from napari_ectkd.io.stacks import StackInfo, StackWriter
from napari_ectkd.simulation.density import load_densities
from napari_ectkd.simulation.imaging import make_imaging, torch_generator
from napari_ectkd.simulation.noise import (
    check_fit,
    cropped,
    noise_variance,
    padded,
    signal_variances,
)
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler, relion_angles
from napari_ectkd.simulation.scenes import draw_scenes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.simulation.config import SubtomogramSimulation
    from napari_ectkd.simulation.density import Density

_BATCH = 16
"""More are slower: their intermediate arrays leave the caches."""


def simulate_subtomograms(
    config: SubtomogramSimulation, *, cancel: Cancel
) -> Iterator[Event]:
    """Simulate a data set of subtomograms and write it as stacks.

    A subtomogram is the density of its particle (and of neighbors) in a random pose,
    plus white noise, both after the missing wedge of the tilt range. The table has each
    particle's pose: `rlnAngleRot`, `rlnAngleTilt`, `rlnAnglePsi` in degrees (density to
    particle, see `poses`) and `rlnOriginXAngst`, `rlnOriginYAngst`, `rlnOriginZAngst`,
    the Å that would bring it to the center (RELION's sign); all 0 for none.

    Parameters
    ----------
    config
        What to simulate. The same config gives the same bytes.
    cancel
        Looked at once per batch.

    Yields
    ------
    Event
        `Noted` for densities that the box clips, `Progress` of the stage "simulate",
        `Saved` and, last, `Finished` with `classes`, `n` and `snr` (by class).

    Raises
    ------
    EctkdError
        At the call: as `load_densities`, `check_fit` and `StackWriter`.
    """
    densities = (
        load_densities(
            config.density,
            config.voxel_size,
            config.resolution,
            is_assembly=config.assembly,
        )
        if config.density
        else phantoms(config.voxel_size)
    )
    warnings = list(check_fit(densities, config.box))
    if config.noise == "per-particle":
        text = (
            "the noise level follows the signal of each particle and would tell its "
            "class: each subtomogram has to be normalized by itself"
        )
        warnings.append(Noted(text=text))
    info = StackInfo(
        box=config.box,
        voxel_size=config.voxel_size,
        classes=[d.name for d in densities] + [NONE] * (config.none > 0),
        tilt_range=config.tilt_range,
        # What the stacks have to say is whether all have one level.
        noise="per-particle" if config.noise == "per-particle" else "common",
        simulation=config.model_dump(mode="json"),
    )
    writer = StackWriter(config.out, info)
    return _simulate(config, densities, writer, warnings, cancel)


def _simulate(
    config: SubtomogramSimulation,
    densities: list[Density],
    writer: StackWriter,
    warnings: list[Noted],
    cancel: Cancel,
) -> Iterator[Event]:
    yield from warnings
    box, imaging = config.box, make_imaging(config)
    # One stream each, so that e.g. another SNR leaves poses and noise as they are.
    for_level, for_scenes, for_noise = np.random.default_rng(config.seed).spawn(3)
    samplers = {d.name: Sampler(d) for d in densities}
    variances = signal_variances(samplers, box, imaging, for_level, cancel)
    level = noise_variance(variances, config.snr)
    is_common = config.noise != "per-particle"
    snr = {
        name: v / level if is_common else config.snr for name, v in variances.items()
    }
    writer.info = writer.info.model_copy(update={"snr": snr})

    scenes = draw_scenes(config, densities, for_scenes)
    is_particle = scenes.main >= 0
    angles, origins = np.zeros((len(scenes), 3)), np.zeros((len(scenes), 3))
    rows = scenes.main[is_particle]
    angles[is_particle] = relion_angles(scenes.rotation[rows])
    origins[is_particle] = -scenes.shift_px[rows] * config.voxel_size
    # Where there is no particle to scale the noise to, it is that of a random class.
    levels = np.full(len(scenes), level)
    if not is_common:
        levels[~is_particle] = for_scenes.choice(
            np.array(list(variances.values())) / config.snr, size=config.none
        )

    generator = torch_generator(for_noise)
    began = time.monotonic()
    for start in range(0, len(scenes), _BATCH):
        cancel.check()
        stop = min(start + _BATCH, len(scenes))
        wide = scenes.render(start, stop, list(samplers.values()), padded(box))
        signal = cropped(imaging.signal(wide), box)
        variance = torch.from_numpy(levels[start:stop].astype(np.float32))
        if not is_common:
            own = signal.var(dim=(1, 2, 3)) / config.snr
            variance = torch.where(
                torch.from_numpy(is_particle[start:stop]), own, variance
            )
        noise = imaging.noise((box, box, box), generator, stop - start)
        volumes = signal + variance.sqrt()[:, None, None, None] * noise
        for index, voxels in enumerate(volumes.numpy(), start):
            writer.add(
                voxels,
                scenes.labels[index],
                rlnAngleRot=float(angles[index, 0]),
                rlnAngleTilt=float(angles[index, 1]),
                rlnAnglePsi=float(angles[index, 2]),
                rlnOriginXAngst=float(origins[index, 2]),
                rlnOriginYAngst=float(origins[index, 1]),
                rlnOriginZAngst=float(origins[index, 0]),
            )
        pace = (time.monotonic() - began) / stop
        yield Progress(
            stage="simulate",
            done=stop,
            total=len(scenes),
            seconds_left=pace * (len(scenes) - stop),
        )
    writer.finish()
    yield Saved(what="data set", path=str(config.out))
    yield Finished(
        result={"classes": writer.info.classes, "n": len(scenes), "snr": snr}
    )
