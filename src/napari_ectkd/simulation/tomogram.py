"""A tomogram of many particles, and the list of what is where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Finished, Progress, Saved
from napari_ectkd.io.formats import tomogram_name, write_mrc
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import write_picks
from napari_ectkd.simulation.density import load_densities
from napari_ectkd.simulation.gold import add_gold
from napari_ectkd.simulation.imaging import drawn, make_imaging, torch_generator
from napari_ectkd.simulation.labels import write_labels
from napari_ectkd.simulation.membranes import add_membrane
from napari_ectkd.simulation.noise import (
    check_fit,
    noise_variance,
    signal_variances,
)
from napari_ectkd.simulation.orientations import relion_angles
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.specimen import Particle, Specimen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_ectkd.events import Cancel, Event, Noted
    from napari_ectkd.simulation.config import TomogramSimulation
    from napari_ectkd.simulation.density import Density


def simulate_tomogram(config: TomogramSimulation, *, cancel: Cancel) -> Iterator[Event]:
    """Simulate a tomogram with its truth, and write both.

    Particles lie at random where they overlap nothing; the sum of their densities is
    imaged, with noise. The truth has label, position (not rounded to voxels) and
    RELION's angles (see `poses`), and, if asked for, what each voxel belongs to.

    Parameters
    ----------
    config
        What to simulate. The same config gives the same bytes.
    cancel
        Looked at once per particle.

    Yields
    ------
    Event
        `Noted` for densities that the box clips, `Progress` of the stage "simulate",
        `Saved` for each file and, last, `Finished` with `classes`, `n`, `snr` (by
        class), `volume_fraction` (of the ice that is particles) and `labels` (the first
        and the last label of particles, of membranes, of gold).

    Raises
    ------
    EctkdError
        At the call: as `load_densities` and `check_fit`. Later: `DataError` if there is
        no room for the particles.
    """
    files = [f.resolve() for f in (config.out, config.truth, config.labels) if f]
    if len(set(files)) < len(files):
        raise ConfigError(f"{config.out}: tomogram and truth need a file each")
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
    return _simulate(config, densities, warnings, cancel)


def _simulate(
    config: TomogramSimulation,
    densities: list[Density],
    warnings: list[Noted],
    cancel: Cancel,
) -> Iterator[Event]:
    yield from warnings
    streams = np.random.default_rng(config.seed).spawn(6)
    for_places, for_level, for_poses, for_noise, for_sizes, for_others = streams
    classes = [Particle(density) for density in densities]
    specimen = Specimen(config)
    indices, sizes = _indices(config, classes, specimen, for_sizes)
    n = len(indices)
    spans = _spans(particles=n, membranes=config.membranes, gold=config.gold)
    yield from _add_others(specimen, spans, for_others, cancel)
    positions, rotations = np.zeros((n, 3)), np.zeros((n, 3, 3))
    # Large particles find room last, so they come first.
    radii = np.array([particle.radius_px for particle in classes])
    extents = radii if config.by_spheres else sizes
    order = np.argsort(-extents[indices], kind="stable")
    for done, row in enumerate(order):
        cancel.check()
        added = specimen.add_particle(
            classes[indices[row]], int(row) + 1, for_places, for_poses
        )
        if added is None:
            raise _no_room(config, done, n, specimen)
        positions[row], rotations[row] = added
        if done % 10 == 9:
            yield Progress(stage="simulate", done=done + 1, total=n + 1)
    cancel.check()
    # All of a tomogram is imaged alike; without spreads nothing is changed by drawing.
    imaging = make_imaging(drawn(config, np.random.default_rng([config.seed, 1])))
    samplers = {particle.name: particle.sampler for particle in classes}
    variances = signal_variances(samplers, config.box, imaging, for_level, cancel)
    level = noise_variance(variances, config.snr)
    noise = imaging.noise(config.shape, torch_generator(for_noise))
    volume = imaging.signal(specimen.volume).add_(noise, alpha=level**0.5)
    if config.invert:
        volume.neg_()
    cancel.check()
    write_mrc(config.out, volume[0].numpy(), config.voxel_size)
    yield Progress(stage="simulate", done=n + 1, total=n + 1)
    yield Saved(what="tomogram", path=str(config.out))
    picks = Picks.create(
        positions * config.voxel_size,
        tomogram_name(config.out),
        label=[densities[i].name for i in indices],
        angles=relion_angles(rotations),
    )
    write_picks(config.truth, picks, config.voxel_size)
    yield Saved(what="truth", path=str(config.truth))
    if config.labels and specimen.labels is not None:
        write_labels(config.labels, specimen.labels, spans, config.voxel_size)
        yield Saved(what="labels", path=str(config.labels))
    yield Finished(
        result={
            "classes": list(variances),
            "n": n,
            "snr": {name: variance / level for name, variance in variances.items()},
            "volume_fraction": specimen.filled,
            "labels": spans,
        }
    )


def _spans(**counts: int) -> dict[str, tuple[int, int]]:
    """Return the first and the last label of each kind of thing that there is."""
    spans, last = {}, 0
    for what, n in counts.items():
        if n:
            spans[what] = (last + 1, last + n)
        last += n
    return spans


def _add_others(
    specimen: Specimen,
    spans: dict[str, tuple[int, int]],
    random: np.random.Generator,
    cancel: Cancel,
) -> Iterator[Event]:
    """Add what is no particle, before the particles, since it needs more room."""
    for what, add in (("membranes", add_membrane), ("gold", add_gold)):
        first, last = spans.get(what, (1, 0))
        for label in range(first, last + 1):
            cancel.check()
            add(specimen, label, random)
            yield Progress(
                stage=f"simulate {what}", done=label - first + 1, total=last - first + 1
            )


def _indices(
    config: TomogramSimulation,
    classes: list[Particle],
    specimen: Specimen,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the class of each particle, and the voxels that one of a class has."""
    sizes = np.array([particle.own_px(random) for particle in classes])
    n_classes = len(classes)
    if config.volume_fraction is None:
        return np.repeat(np.arange(n_classes), config.per_class or 0), sizes
    voxels = config.volume_fraction * specimen.ice_px
    whole = int(voxels // sizes.sum())
    # One more of each as long as that brings the sum nearer.
    more = (whole * sizes.sum() + np.cumsum(sizes) - sizes / 2) <= voxels
    counts = whole + np.where(np.cumprod(more), 1, 0)
    if not counts.sum():
        raise DataError(
            f"{100 * config.volume_fraction:g} % of the volume is less than one "
            "particle; state a larger --volume-fraction or --shape"
        )
    return np.repeat(np.arange(n_classes), counts), sizes


def _no_room(
    config: TomogramSimulation, done: int, n: int, specimen: Specimen
) -> DataError:
    z, y, x = config.shape
    fewer = "--per-class" if config.volume_fraction is None else "--volume-fraction"
    return DataError(
        f"room for {done} of {n} particles in {z} x {y} x {x} voxels, "
        f"{100 * specimen.filled:.1f} % of the ice, and no more found; take a smaller "
        f"{fewer}, a larger --shape, or a smaller --gap or --margin"
        + (", or --packing shapes" if config.by_spheres else "")
    )
