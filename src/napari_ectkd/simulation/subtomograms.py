"""Data sets of single subtomograms whose classes are known."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_ectkd.events import Finished, Noted, Progress, Saved
from napari_ectkd.io.picks import NONE
from napari_ectkd.io.stacks import StackInfo, StackWriter, per_stack
from napari_ectkd.simulation.density import density_hashes
from napari_ectkd.simulation.noise import check_fit
from napari_ectkd.simulation.shards import (
    Shards,
    make_here,
    make_in_processes,
    mixed_classes,
    one_thread,
)
from napari_ectkd.simulation.simulator import densities_of, signal_level

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.simulation.config import SubtomogramSimulation
    from napari_ectkd.simulation.density import Density


def simulate_subtomograms(
    config: SubtomogramSimulation, *, cancel: Cancel
) -> Iterator[Event]:
    """Simulate a data set of subtomograms and write it as stacks.

    Classes are mixed. The table has each particle's pose, see `Simulator`. What an
    interrupted simulation of the same settings left in the folder is kept.

    Parameters
    ----------
    config
        What to simulate. The same config gives the same bytes, whatever the number of
        processes and interruptions.
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
    densities = densities_of(config)
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
        simulation=config.model_dump(mode="json", exclude={"out", "processes"}),
        densities=density_hashes(config.density),
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
    with one_thread():
        variances = signal_level(config, densities, cancel)
        shards = Shards(
            writer,
            config,
            densities,
            variances,
            mixed_classes(config, len(densities)),
            per_stack(config.box),
        )
        snr = shards.simulator().snr
        if writer.is_finished:
            yield Noted(text=f"{config.out}: this data set is there already, whole")
        else:
            yield from _make_missing(shards, config.processes, cancel)
            writer.info = writer.info.model_copy(update={"snr": snr})
            writer.finish(len(shards))
    yield Saved(what="data set", path=str(config.out))
    yield Finished(
        result={"classes": writer.info.classes, "n": len(shards.classes), "snr": snr}
    )


def _make_missing(shards: Shards, processes: int, cancel: Cancel) -> Iterator[Event]:
    missing, total = shards.missing(), len(shards.classes)
    n_left = sum(len(shards.members(number)) for number in missing)
    done = total - n_left
    if done:
        yield Noted(text=f"going on: {done} of {total} subtomograms are there already")
    n = min(processes, len(missing))
    began = time.monotonic()
    new = 0
    for some in (
        make_in_processes(shards, n, cancel) if n > 1 else make_here(shards, cancel)
    ):
        new += some
        yield Progress(
            stage="simulate",
            done=done + new,
            total=total,
            seconds_left=(time.monotonic() - began) / new * (n_left - new),
        )
