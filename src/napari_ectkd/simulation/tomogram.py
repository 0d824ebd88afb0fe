"""A tomogram of many particles, and the list of what is where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Finished, Progress, Saved
from napari_ectkd.io.formats import tomogram_name, write_mrc
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.star import write_picks
from napari_ectkd.simulation.density import load_densities
from napari_ectkd.simulation.imaging import make_imaging, torch_generator
from napari_ectkd.simulation.noise import (
    check_fit,
    noise_variance,
    signal_variances,
)
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler, random_rotations, relion_angles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_ectkd.events import Cancel, Event, Noted
    from napari_ectkd.simulation.config import TomogramSimulation
    from napari_ectkd.simulation.density import Density

_TRIES_AT_ONCE = 1024
_TRIES = 64 * _TRIES_AT_ONCE
"""Random positions that are tried for one particle before giving up."""


def simulate_tomogram(config: TomogramSimulation, *, cancel: Cancel) -> Iterator[Event]:
    """Simulate a tomogram with its truth, and write both.

    Particles lie at random where their enclosing spheres touch neither each other nor
    the border; the sum of their densities and white noise lose the missing wedge. The
    truth has label, position (not rounded to voxels) and RELION's angles (see `poses`).

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
        `Saved` twice and, last, `Finished` with `classes`, `n` and `snr` (by class).

    Raises
    ------
    EctkdError
        At the call: as `load_densities` and `check_fit`, and `DataError` if the
        particles do not fit.
    """
    if config.out.resolve() == config.truth.resolve():
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
    streams = np.random.default_rng(config.seed).spawn(4)
    indices = np.repeat(np.arange(len(densities)), config.per_class)
    radii_px = np.array([densities[i].radius for i in indices]) / config.voxel_size
    positions_px = place_spheres(
        radii_px,
        config.shape,
        config.gap / config.voxel_size,
        streams[0],
        margin_px=_margin_px(config),
    )
    return _simulate(
        config, densities, indices, positions_px, streams[1:], warnings, cancel
    )


def _margin_px(config: TomogramSimulation) -> float:
    """Return the stated margin in voxels, or half a box where the shape has room."""
    if config.margin is not None:
        return config.margin / config.voxel_size
    has_room = min(config.shape) > config.box
    return config.box / 2 if has_room else 0.0


def place_spheres(
    radii_px: NDArray[np.float64],
    shape: tuple[int, int, int],
    gap_px: float,
    random: np.random.Generator,
    *,
    margin_px: float = 0.0,
) -> NDArray[np.float64]:
    """Return random centers of spheres that overlap neither each other nor the border.

    Parameters
    ----------
    radii_px
        `(n,)` voxels. The largest are placed first, since they find room last.
    shape
        Voxels along z, y, x.
    gap_px
        Voxels that are kept free between two spheres.
    random
        Where all draws come from.
    margin_px
        Voxels that centers keep from the faces, if that is more than the radius.

    Returns
    -------
    positions_px
        `(n, 3)` zyx voxels, the center of the first voxel at 0.

    Raises
    ------
    DataError
        If no room is found for all of them.
    """
    n = len(radii_px)
    last = np.array(shape) - 1.0
    positions = np.zeros((n, 3))
    placed: list[int] = []
    for index in np.argsort(-radii_px, kind="stable"):
        radius = radii_px[index]
        inset = max(radius, margin_px)
        low, high = np.full(3, inset), last - inset
        if (low > high).any():
            raise DataError(
                f"a particle {2 * radius:.0f} voxels wide does not fit into a tomogram "
                f"of {shape[0]} x {shape[1]} x {shape[2]}; make that larger"
            )
        others, reach = positions[placed], radii_px[placed] + radius + gap_px
        for _ in range(_TRIES // _TRIES_AT_ONCE):
            tries = random.uniform(low, high, (_TRIES_AT_ONCE, 3))
            apart = np.linalg.norm(tries[:, None] - others, axis=2)
            is_free = (apart >= reach).all(axis=1)
            if is_free.any():
                positions[index] = tries[is_free.argmax()]
                placed.append(int(index))
                break
        else:
            raise DataError(
                f"room for {len(placed)} of {n} particles in {shape[0]} x {shape[1]} x "
                f"{shape[2]} voxels after {_TRIES} tries for the next; take fewer "
                "(--per-class), a larger --shape, or a smaller --gap or --margin"
            )
    return positions


def _simulate(
    config: TomogramSimulation,
    densities: list[Density],
    indices: NDArray[np.int64],
    positions_px: NDArray[np.float64],
    streams: list[np.random.Generator],
    warnings: list[Noted],
    cancel: Cancel,
) -> Iterator[Event]:
    yield from warnings
    for_level, for_poses, for_noise = streams
    samplers = {d.name: Sampler(d) for d in densities}
    imaging = make_imaging(config)
    variances = signal_variances(samplers, config.box, imaging, for_level, cancel)
    level = noise_variance(variances, config.snr)

    n = len(indices)
    rotations = random_rotations(n, for_poses)
    volume = torch.zeros(1, *config.shape)
    for row, index in enumerate(indices):
        cancel.check()
        samplers[densities[index].name].add_to(
            volume, np.zeros(1, int), rotations[[row]], positions_px[[row]]
        )
        if row % 10 == 9:
            yield Progress(stage="simulate", done=row + 1, total=n + 1)
    cancel.check()
    noise = imaging.noise(config.shape, torch_generator(for_noise))
    volume = imaging.signal(volume).add_(noise, alpha=level**0.5)
    if config.invert:
        volume.neg_()
    cancel.check()
    write_mrc(config.out, volume[0].numpy(), config.voxel_size)
    yield Progress(stage="simulate", done=n + 1, total=n + 1)
    yield Saved(what="tomogram", path=str(config.out))
    picks = Picks.create(
        positions_px * config.voxel_size,
        tomogram_name(config.out),
        label=[densities[i].name for i in indices],
        angles=relion_angles(rotations),
    )
    write_picks(config.truth, picks, config.voxel_size)
    yield Saved(what="truth", path=str(config.truth))
    snr = {name: variance / level for name, variance in variances.items()}
    yield Finished(result={"classes": list(variances), "n": n, "snr": snr})
