"""The batches of an epoch: read, brought to the device, varied there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from napari_ectkd.dataset.augment import Augmentation
from napari_ectkd.dataset.degrade import noise_spectrum
from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.devices.kernels import layout_of
from napari_ectkd.io.picks import NONE
from napari_ectkd.models.inference import to_volumes
from napari_ectkd.training.defaults import steps_per_epoch
from napari_ectkd.training.objective import Batch
from napari_ectkd.training.sampling import epoch_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_ectkd.dataset.augment import Draws
    from napari_ectkd.dataset.split import Split
    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.workers import Workers

LONG_TAIL = 10
"""Times the labels of the rarest class that make small classes be shown more often:
at 100 times that gained 4 points."""
_FOR_SPECTRUM = 128
_READ_AHEAD = 2


@dataclass
class Material:
    """What the loop is given: a data set, which part of it teaches, and its classes.

    Attributes
    ----------
    fingerprint
        Hash of the data, from `provenance.fingerprint`; empty if nobody took it.
    groups
        `(n,)` classes by which an epoch is balanced; None for the targets. A student's
        unlabeled subtomograms have no target, but a class that the teacher gives them.
    """

    data: LabeledSubtomograms
    split: Split
    targets: NDArray[np.int64]
    classes: list[str]
    fingerprint: str = ""
    groups: NDArray[np.int64] | None = None

    @property
    def n_training(self) -> int:
        """Subtomograms that an epoch shows."""
        return len(self.split.training)

    @property
    def n_unlabeled(self) -> int:
        """Subtomograms that an epoch shows and nobody labeled."""
        return int((self.targets[self.split.training] == NO_TARGET).sum())

    @property
    def default_balance(self) -> float:
        """How far the classes of an epoch are balanced if nobody says: for long tails.

        How many are none of the classes tells nothing of that.
        """
        targets = self.targets[self.split.training]
        counts = [int((targets == k).sum()) for k in range(len(self.classes))]
        named = zip(self.classes, counts, strict=True)
        found = [n for name, n in named if name != NONE and n]
        return 0.5 if found and max(found) >= LONG_TAIL * min(found) else 0.0

    @property
    def is_endless(self) -> bool:
        """Whether no epoch shows what another has shown."""
        return False

    def batches(
        self, config: TrainConfig, device: torch.device, workers: Workers
    ) -> BatchSource:
        """Return what makes the batches of each epoch."""
        return Batches(self, config, device, workers)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A batch, or one process's share of it, read but not yet on the device.

    Attributes
    ----------
    n_whole
        Subtomograms in the whole batch.
    """

    volumes: torch.Tensor
    targets: torch.Tensor
    index: torch.Tensor
    draws: Draws
    n_whole: int
    augmentation: Augmentation
    device: torch.device

    def __len__(self) -> int:
        return len(self.index)

    def part(self, part: slice) -> Batch:
        """Return some of it on the device, varied as it was drawn for the whole."""
        volumes = self.volumes[part].to(
            self.device, memory_format=layout_of(self.device), non_blocking=True
        )
        return Batch(
            self.augmentation.apply(volumes, self.draws[part]),
            self.targets[part].to(self.device, non_blocking=True),
            self.index[part],
        )


class BatchSource(Protocol):
    """Where the loop gets its batches from."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(self, number: int, generator: torch.Generator) -> Iterator[Loaded]:
        """Yield the batches of one epoch.

        Parameters
        ----------
        number
            Of the epoch, from 1.
        generator
            Order and augmentation are drawn from it, which follows from the number.
        """
        ...

    def examples(self, n: int, generator: torch.Generator) -> Batch:
        """Return n subtomograms as the network will see them, classes in turn."""
        ...


class Batches:
    """Makes the batches of each epoch from a data set; see `BatchSource`.

    Parameters
    ----------
    material
        What there is to learn from.
    config
        Batch size, balance, augmentation.
    device
        Where batches go. For a GPU they are read ahead, into memory it can copy from
        while it computes.
    workers
        Each process reads its share alone.
    """

    def __init__(
        self,
        material: Material,
        config: TrainConfig,
        device: torch.device,
        workers: Workers,
    ) -> None:
        self._material = material
        self._config = config
        self._device = device
        self._workers = workers
        data, training = material.data, material.split.training
        spectrum = None
        if config.noise or config.cutout:
            some = np.linspace(0, len(training) - 1, min(len(training), _FOR_SPECTRUM))
            cpu = torch.device("cpu")
            volumes = to_volumes(data.read(training[some.astype(int)]), cpu)
            spectrum = noise_spectrum(volumes).to(device)
        self._augmentation = Augmentation(config, data.tilt_range, spectrum)

    def __len__(self) -> int:
        return steps_per_epoch(
            len(self._material.split.training), self._config.batch_size
        )

    def epoch(self, _number: int, generator: torch.Generator) -> Iterator[Loaded]:
        """Yield the batches of one epoch; see `BatchSource`."""
        material, size = self._material, self._config.batch_size
        training = material.split.training
        groups = material.targets if material.groups is None else material.groups
        balance = self._config.balance
        if balance is None:
            balance = self._material.default_balance
        order = epoch_order(training, groups[training], balance, generator)
        # Drawn in order, whoever reads when.
        draws = (
            (index, self._augmentation.draw(len(index), generator))
            for step in range(len(self))
            if len(index := order[step * size : (step + 1) * size])
        )
        if self._device.type == "cuda":
            yield from _read_ahead(draws, self._load)
        else:
            yield from (self._load(drawn) for drawn in draws)

    def examples(self, n: int, generator: torch.Generator) -> Batch:
        """Return n subtomograms as the network will see them, classes in turn."""
        material = self._material
        training = material.split.training
        of_class = [
            training[material.targets[training] == label]
            for label in range(len(material.classes))
        ]
        turns = range(-(-n // len(of_class)))
        chosen = [some[t % len(some)] for t in turns for some in of_class if len(some)]
        index = np.array(chosen[:n])
        drawn = index, self._augmentation.draw(len(index), generator)
        loaded = self._load(drawn, is_shared=False)
        return loaded.part(slice(None))

    def _load(
        self, drawn: tuple[NDArray[np.int64], Draws], *, is_shared: bool = True
    ) -> Loaded:
        index, draws = drawn
        share = self._workers.share(len(index)) if is_shared else slice(None)
        mine = index[share]
        volumes = to_volumes(self._material.data.read(mine), torch.device("cpu"))
        targets = torch.from_numpy(self._material.targets[mine])
        if self._device.type == "cuda":
            volumes, targets = volumes.pin_memory(), targets.pin_memory()
        return Loaded(
            volumes,
            targets,
            torch.from_numpy(mine),
            draws[share],
            len(index),
            self._augmentation,
            self._device,
        )


def _read_ahead(
    draws: Iterator[tuple[NDArray[np.int64], Draws]],
    load: Callable[[tuple[NDArray[np.int64], Draws]], Loaded],
) -> Iterator[Loaded]:
    """Yield what is loaded by a thread that is some batches ahead."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [
            pool.submit(load, drawn)
            for _, drawn in zip(range(_READ_AHEAD), draws, strict=False)
        ]
        while waiting:
            ready = waiting.pop(0).result()
            drawn = next(draws, None)
            if drawn is not None:
                waiting.append(pool.submit(load, drawn))
            yield ready
