"""A data set in parts that do not depend on each other: shards.

Shard k draws from `SeedSequence(seed, spawn_key=(k,))`, so that who makes it, when, and
after which interruption changes nothing of it. A shard is a stack of `io.stacks`. Each
is computed by one thread: the order in which several add up would show in the bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ectkd.errors import DataError
from napari_ectkd.events import Cancel, CancelledError
from napari_ectkd.simulation.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_ectkd.io.stacks import StackWriter
    from napari_ectkd.simulation.config import SubtomogramSettings
    from napari_ectkd.simulation.density import Density

_INTERVAL = 0.5
"""Seconds between looks at other processes."""
_MIXED = 2**32 - 1
"""A spawn key that is no shard's number."""


def mixed_classes(
    config: SubtomogramSettings,
    n_classes: int,
    seed: np.random.SeedSequence | None = None,
) -> NDArray[np.int64]:
    """Return `(n,)` the class of each subtomogram, -1 for none, in random order.

    Each class comes exactly as often as the settings say; a shard is a sample of all.

    Parameters
    ----------
    config
        How many there are of each class.
    n_classes
        Without none.
    seed
        Of the order; by default that of the config's data set.
    """
    classes: NDArray[np.int64] = np.r_[
        np.repeat(np.arange(n_classes), config.per_class), np.full(config.none, -1)
    ]
    seed = seed or np.random.SeedSequence(config.seed, spawn_key=(_MIXED,))
    np.random.default_rng(seed).shuffle(classes)
    return classes


@dataclass(frozen=True, eq=False)
class Shards:
    """What is needed to make any shard of a data set, in any process.

    Attributes
    ----------
    writer
        Of the data set.
    config
        What is in a subtomogram.
    densities
        The classes.
    variances
        Of the signal of each class.
    classes
        `(n,)` the class of each subtomogram of the data set; -1 for none.
    size
        Subtomograms in a shard; the last may have fewer.
    """

    writer: StackWriter
    config: SubtomogramSettings
    densities: Sequence[Density]
    variances: dict[str, float]
    classes: NDArray[np.int64]
    size: int

    def __len__(self) -> int:
        return -(-len(self.classes) // self.size)

    def members(self, number: int) -> NDArray[np.int64]:
        """Return the classes in one shard."""
        return self.classes[number * self.size : (number + 1) * self.size]

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not written yet."""
        return [number for number in range(len(self)) if not self.writer.has(number)]

    def simulator(self) -> Simulator:
        """Return what makes the subtomograms."""
        return Simulator(self.config, self.densities, self.variances)

    def make(self, simulator: Simulator, number: int) -> Iterator[int]:
        """Make and write one shard; yield how many subtomograms each step made."""
        members = self.members(number)
        seed = np.random.SeedSequence(self.config.seed, spawn_key=(number,))
        voxels = np.empty((len(members), *[self.config.box] * 3), dtype=np.float32)
        labels: list[str] = []
        columns: list[dict[str, NDArray[np.float64]]] = []
        for made in simulator.make(members, seed):
            n = len(made.labels)
            voxels[len(labels) : len(labels) + n] = made.voxels.numpy()
            labels += made.labels
            columns.append(made.columns)
            yield n
        joined = {
            name: np.concatenate([some[name] for some in columns])
            for name in columns[0]
        }
        self.writer.write(number, voxels, labels, joined)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute by one thread, and then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_here(shards: Shards, cancel: Cancel) -> Iterator[int]:
    """Make the missing shards in this process; yield how many subtomograms are new.

    Raises
    ------
    CancelledError
        If it was asked for between two batches.
    """
    simulator = shards.simulator()
    for number in shards.missing():
        for n in shards.make(simulator, number):
            yield n
            cancel.check()


def make_in_processes(shards: Shards, n: int, cancel: Cancel) -> Iterator[int]:
    """Make the missing shards in n processes; yield how many subtomograms are new.

    Raises
    ------
    CancelledError
        If it was asked for; the processes stop after their batch.
    DataError
        If a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    stop, counter = context.Event(), context.Value("q", 0)
    pool = ProcessPoolExecutor(n, context, _begin, (shards, stop, counter))
    seen = 0
    try:
        waiting = {pool.submit(_make_one, number) for number in shards.missing()}
        while waiting:
            done, waiting = wait(waiting, _INTERVAL, FIRST_EXCEPTION)
            for future in done:
                future.result()
            cancel.check()
            so_far = counter.value
            if so_far > seen:
                yield so_far - seen
                seen = so_far
    except BrokenProcessPool as error:
        raise DataError(
            "a process that simulates was killed, perhaps for want of memory; simulate "
            "again with fewer --processes, and it goes on where it stopped"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


_in_worker: dict[str, Any] = {}
"""In a process of the pool: what its shards are made with."""


def _begin(shards: Shards, stop: Any, counter: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process asks us to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _in_worker.update(
        shards=shards, simulator=shards.simulator(), stop=stop, counter=counter
    )


def _end_with_parent() -> None:
    """End this process when the first one is killed: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_one(number: int) -> None:
    for n in _in_worker["shards"].make(_in_worker["simulator"], number):
        if _in_worker["stop"].is_set():
            raise CancelledError("cancelled")
        with _in_worker["counter"].get_lock():
            _in_worker["counter"].value += n
