"""Training on simulations that are made while it learns: no data set, no disk.

An epoch shows as many subtomograms as the settings would put into a data set, each of
them new. On a GPU they are made there; on a CPU a thread makes the next ones while the
network learns from the last, and each is shown several times, augmented anew, so that
nobody waits. What is made follows from the settings' seed, the run's seed and the
epoch's number alone: a run that is resumed sees what it would have seen.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.dataset.augment import Augmentation
from napari_ectkd.dataset.degrade import noise_spectrum
from napari_ectkd.dataset.from_folder import without_place
from napari_ectkd.dataset.split import Split
from napari_ectkd.devices.kernels import layout_of
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Noted, Progress
from napari_ectkd.io.picks import NONE
from napari_ectkd.models.inference import to_volumes
from napari_ectkd.simulation.noise import check_fit
from napari_ectkd.simulation.settings_file import fingerprint, read_settings
from napari_ectkd.simulation.shards import mixed_classes
from napari_ectkd.simulation.simulator import Simulator, densities_of, signal_level
from napari_ectkd.training.batches import Loaded, Material
from napari_ectkd.training.defaults import steps_per_epoch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_ectkd.dataset.augment import Draws
    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.dataset.subtomograms import Mode
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.simulation.config import SubtomogramSettings
    from napari_ectkd.simulation.density import Density
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.objective import Batch
    from napari_ectkd.training.workers import Workers

REUSE_ON_CPU = 4
"""How often a subtomogram is shown where making it takes the learner's time."""
_BATCHES_AT_ONCE = 8
_STREAM, _VALIDATION = 2**32 - 2, 2**32 - 3
"""Spawn keys that are no shard's number."""
_LEAST_VALIDATION = 0.05
"""Share made in any case: the scale of gray values is taken from it."""


@dataclass(frozen=True, eq=False)
class Stream:
    """What is needed to make subtomograms for training.

    Attributes
    ----------
    settings
        What is in a subtomogram, and how many an epoch has of each class.
    densities
        The classes.
    variances
        Of the signal of each class.
    order
        `(k,)` the class index, in the material's order, of each density; none's last.
    reuse
        How often each is shown; None for what the device makes sensible.
    """

    settings: SubtomogramSettings
    densities: list[Density]
    variances: dict[str, float]
    order: NDArray[np.int64]
    reuse: int | None

    def simulator(self, device: torch.device) -> Simulator:
        """Return what makes them on a device."""
        return Simulator(self.settings, self.densities, self.variances, device)


@dataclass
class StreamMaterial(Material):
    """A fixed simulated set to validate on, and a stream to learn from."""

    stream: Stream | None = None

    @property
    def n_training(self) -> int:
        """Subtomograms that an epoch shows."""
        assert self.stream is not None
        settings = self.stream.settings
        return settings.per_class * len(self.stream.densities) + settings.none

    @property
    def is_endless(self) -> bool:
        """Whether epochs never show the same again."""
        return True

    def batches(
        self, config: TrainConfig, device: torch.device, workers: Workers
    ) -> StreamBatches:
        """Return what makes the batches of each epoch."""
        return StreamBatches(self, config, device, workers)


@dataclass(frozen=True, eq=False)
class _Pool:
    """Subtomograms to learn from for some batches: `(n, 1, box, box, box)`, `(n,)`."""

    volumes: Tensor
    targets: Tensor


class StreamBatches:
    """Makes the batches of each epoch from a simulation; see `BatchSource`.

    Parameters
    ----------
    material
        The stream, and the validation set that fixes the scale of gray values.
    config
        Batch size, seed, augmentation.
    device
        Where batches go.
    workers
        Each process makes its share alone, from a seed of its own.
    """

    def __init__(
        self,
        material: StreamMaterial,
        config: TrainConfig,
        device: torch.device,
        workers: Workers,
    ) -> None:
        assert material.stream is not None
        self._material, self._config = material, config
        self._stream = material.stream
        self._device, self._workers = device, workers
        # Elsewhere the simulation is made by the CPU: not all of it runs on MPS.
        self._made_on = device if device.type == "cuda" else torch.device("cpu")
        self._simulator = self._stream.simulator(self._made_on)
        is_soon_made = self._made_on.type == "cuda" and not self._simulator.is_drawn
        self._reuse = self._stream.reuse or (1 if is_soon_made else REUSE_ON_CPU)
        spectrum = None
        if config.noise or config.cutout:
            some = material.data.read(np.arange(min(len(material.data), 128)))
            spectrum = noise_spectrum(to_volumes(some, torch.device("cpu"))).to(device)
        self._augmentation = Augmentation(config, material.data.tilt_range, spectrum)
        self._thread = ThreadPoolExecutor(1)
        self._ahead: dict[tuple[int, int], Future[_Pool]] = {}

    def __len__(self) -> int:
        return steps_per_epoch(self._material.n_training, self._config.batch_size)

    def epoch(self, number: int, generator: torch.Generator) -> Iterator[Loaded]:
        """Yield the batches of one epoch; see `BatchSource`."""
        size = min(self._config.batch_size, self._material.n_training)
        share = self._workers.share(size)
        mine = share.stop - share.start
        for part in range(self._n_parts):
            pool = self._take(number, part)
            # Another order each time that the pool is shown.
            shown = [
                torch.randperm(len(pool.targets), generator=generator)
                for _ in range(self._reuse)
            ]
            order = torch.cat(shown)
            for step in range(self._steps(part)):
                index = order[step * mine : (step + 1) * mine].to(pool.volumes.device)
                draws = self._augmentation.draw(size, generator)[share]
                yield self._loaded(pool, index, draws, size)

    def examples(self, n: int, generator: torch.Generator) -> Batch:
        """Return n subtomograms as the network will see them, classes in turn."""
        classes = np.arange(n) % len(self._material.classes)
        of_density = np.argsort(self._stream.order)
        density = of_density[classes]
        density[density == len(self._stream.densities)] = -1
        seed = np.random.SeedSequence(
            self._stream.settings.seed, spawn_key=(_STREAM, self._config.seed)
        )
        pool = self._make(density, seed)
        draws = self._augmentation.draw(n, generator)
        return self._loaded(pool, torch.arange(n), draws, n).part(slice(None))

    @property
    def _n_parts(self) -> int:
        return -(-len(self) // _BATCHES_AT_ONCE)

    def _steps(self, part: int) -> int:
        return min(_BATCHES_AT_ONCE, len(self) - part * _BATCHES_AT_ONCE)

    def _take(self, epoch: int, part: int) -> _Pool:
        """Return a part of an epoch, and have the next one made meanwhile."""
        here = self._ahead.pop((epoch, part), None)
        if here is None:
            here = self._thread.submit(self._pool, epoch, part)
        pool = here.result()
        is_last = part + 1 == self._n_parts
        following = (epoch + 1, 0) if is_last else (epoch, part + 1)
        self._ahead = {following: self._thread.submit(self._pool, *following)}
        return pool

    def _pool(self, epoch: int, part: int) -> _Pool:
        settings, rank = self._stream.settings, self._workers.rank
        size = min(self._config.batch_size, self._material.n_training)
        share = self._workers.share(size)
        n = -(-self._steps(part) * (share.stop - share.start) // self._reuse)
        key = (_STREAM, self._config.seed, epoch, part, rank)
        for_classes, for_making = np.random.SeedSequence(
            settings.seed, spawn_key=key
        ).spawn(2)
        classes = mixed_classes(settings, len(self._stream.densities), for_classes)
        # A few are a sample of the whole epoch's.
        return self._make(np.resize(classes, n), for_making)

    def _make(self, classes: NDArray[np.int64], seed: np.random.SeedSequence) -> _Pool:
        with torch.no_grad():
            made = [some.voxels for some in self._simulator.make(classes, seed)]
            volumes = self._normalized(torch.cat(made))[:, None]
            # Laid out once, and not each time that it is shown.
            volumes = volumes.contiguous(memory_format=layout_of(self._device))
        targets = torch.from_numpy(self._stream.order[classes])
        return _Pool(volumes, targets.to(self._made_on))

    def _normalized(self, volumes: Tensor) -> Tensor:
        data = self._material.data
        if data.mode == "subtomogram":
            volumes = volumes - volumes.mean(dim=(1, 2, 3), keepdim=True)
            scale = volumes.std(dim=(1, 2, 3), keepdim=True, correction=0)
            return volumes / scale.clamp(min=1e-12)
        offset, divisor = data.scale[0].tolist()
        return volumes.sub_(offset).div_(divisor)

    def _loaded(self, pool: _Pool, index: Tensor, draws: Draws, n: int) -> Loaded:
        """Return some of a pool, with what was drawn for them."""
        return Loaded(
            pool.volumes[index],
            pool.targets[index],
            torch.arange(len(index)),
            draws,
            n,
            self._augmentation,
            self._device,
        )


def prepare_stream(
    data: DataConfig, config: TrainConfig, cancel: Cancel
) -> Generator[Event, None, Material]:
    """Read the settings of a simulation and simulate what is validated on.

    Yields what the user should know; returns what the loop is given.

    Raises
    ------
    EctkdError
        If the settings are broken, or a data set is named too.
    """
    assert data.stream is not None
    if data.data:
        raise ConfigError(
            "a data set (--data) and a stream of simulations (--stream) at once; "
            "simulate a data set to learn from both"
        )
    settings = read_settings(data.stream)
    densities = densities_of(settings)
    if len(densities) + (settings.none > 0) < 2:
        raise DataError("only one class to learn; name a second density, or have none")
    yield from check_fit(densities, settings.box)
    mode: Mode = "subtomogram" if data.normalize == "subtomogram" else "data"
    if settings.noise == "per-particle":
        if data.normalize == "data":
            raise ConfigError(
                f"{data.stream}: noise per particle, so that the noise level alone "
                "gives the class away; use --normalize subtomogram"
            )
        mode = "subtomogram"
    if config.balance:  # of a run that an earlier version began
        yield Noted(text="its settings say how often each class comes, not balance")
    variances = signal_level(settings, densities, cancel)
    names = [d.name for d in densities] + [NONE] * (settings.none > 0)
    classes = [*sorted(d.name for d in densities), *names[len(densities) :]]
    order = np.array([classes.index(name) for name in names], dtype=np.int64)
    stream = Stream(settings, densities, variances, order, data.stream_reuse)
    volumes, labels = yield from _validation_set(stream, config, cancel)
    simulated = without_place(
        volumes,
        labels,
        mode=mode,
        sign=1,
        voxel_size=settings.voxel_size,
        tilt_range=settings.tilt_range,
    )
    n_kept = len(volumes) if config.validation_fraction else 0
    material = StreamMaterial(
        simulated,
        Split(
            np.zeros(0, dtype=np.int64),
            np.arange(n_kept),
            "simulated from another seed than what it learns from, which is endless",
        ),
        simulated.targets(classes),
        classes,
        fingerprint(settings),
        stream=stream,
    )
    yield Noted(
        text=f"{material.n_training} subtomograms an epoch, simulated while it learns; "
        f"{n_kept} for validation, simulated from another seed"
    )
    return material


def _validation_set(
    stream: Stream, config: TrainConfig, cancel: Cancel
) -> Generator[Event, None, tuple[list[NDArray[np.float32]], list[str]]]:
    """Simulate a set that stays the same, whatever the run's seed and its device."""
    settings = stream.settings
    share = max(config.validation_fraction, _LEAST_VALIDATION)
    fewer = settings.model_copy(
        update={
            "per_class": math.ceil(share * settings.per_class),
            "none": math.ceil(share * settings.none),
        }
    )
    for_classes, for_making = np.random.SeedSequence(
        settings.seed, spawn_key=(_VALIDATION,)
    ).spawn(2)
    classes = mixed_classes(fewer, len(stream.densities), for_classes)
    volumes: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for made in stream.simulator(torch.device("cpu")).make(classes, for_making):
        cancel.check()
        volumes += list(made.voxels.numpy())
        labels += made.labels
        yield Progress(
            stage="simulate for validation", done=len(labels), total=len(classes)
        )
    return volumes, labels
