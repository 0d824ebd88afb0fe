"""The stage: from a data set with labels to a run with a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.dataset.split import split_dataset
from napari_ectkd.errors import DataError
from napari_ectkd.events import Finished, Noted
from napari_ectkd.models.registry import find_model
from napari_ectkd.training.batches import Material
from napari_ectkd.training.defaults import FEW_LABELS
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.lesson import Lesson
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.provenance import fingerprint
from napari_ectkd.training.stream import prepare_stream
from napari_ectkd.training.workers import choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run
    from napari_ectkd.training.config import LearnConfig, TrainConfig

MANY = 1000
"""Labels in all from which the large teacher pays."""


def train(
    data_config: DataConfig,
    config: TrainConfig,
    run: Run,
    *,
    cancel: Cancel,
    is_resumed: bool = False,
) -> Iterator[Event]:
    """Train a model on labeled subtomograms; its checkpoints go into the run's folder.

    Parameters
    ----------
    data_config
        Where the labels come from.
    config
        How to learn.
    run
        A run folder that has been created.
    cancel
        Looked at once per batch.
    is_resumed
        Whether to go on with the run's saved state.

    Raises
    ------
    EctkdError
        If a setting cannot work; from the first event on also if the data is broken.
    """
    check_settings(config)
    if is_resumed:
        run.check_resumable()
    return _train(data_config, config, run, cancel, is_resumed)


def _train(
    data_config: DataConfig,
    config: TrainConfig,
    run: Run,
    cancel: Cancel,
    is_resumed: bool,
) -> Generator[Event, None, None]:
    material = yield from prepare(data_config, config, cancel)
    name = config.model or default_model(material)
    learner = Learner.create(name, material, config, trained_by="train")
    yield from learner.learn(
        Lesson(material, HardLabels(config.label_smoothing)),
        config,
        run,
        cancel=cancel,
        is_resumed=is_resumed,
    )
    yield Finished(result=learner.result)


def check_settings(config: LearnConfig) -> None:
    """Raise `ConfigError` if there is no such device or network."""
    choose_worker_device(config.device)
    if config.model is not None:
        find_model(config.model)


def default_model(material: Material) -> str:
    """Return the network for so many labels."""
    is_large = material.is_endless or len(material.data) >= MANY
    return "residual" if is_large else "residual_small"


def prepare(
    data_config: DataConfig, config: TrainConfig, cancel: Cancel
) -> Generator[Event, None, Material]:
    """Open and split a data set, or a stream, saying what the user should know of it.

    Raises
    ------
    DataError
        If there are not at least two classes.
    """
    if data_config.stream is not None:
        return (yield from prepare_stream(data_config, config, cancel))
    data = yield from load_dataset(data_config, cancel=cancel)
    classes = data.classes
    if len(classes) < 2:
        raise DataError(
            f"only one class ({classes[0]}) has labels; label a second one, or some "
            "picks as none"
        )
    targets = data.targets(classes)
    split = split_dataset(
        targets,
        data.tomogram,
        data.positions,
        data.box * data.voxel_size,
        config.validation_fraction,
        config.seed if config.split_seed is None else config.split_seed,
    )
    yield from _say_what_matters(data, split.training, split.validation, split.how)
    material = Material(data, split, targets, classes, fingerprint(data_config, data))
    if config.balance is None and material.default_balance:
        yield Noted(
            text="some classes have ten times the labels of others: small ones are "
            f"shown more often (--balance {material.default_balance:g})"
        )
    return material


def _say_what_matters(
    data: LabeledSubtomograms, training: Any, validation: Any, how: str
) -> Iterator[Event]:
    counts = ", ".join(f"{name} {n}" for name, n in data.counts().items())
    yield Noted(text=f"{len(data)} labeled subtomograms: {counts}")
    text = f"{len(training)} to learn from, {len(validation)} for validation, {how}"
    unused = len(data) - len(training) - len(validation)
    yield Noted(text=text + (f"; {unused} between them unused" if unused else ""))
    for name in data.classes:
        n = int((data.label[training] == name).sum())
        if n == 0:
            raise DataError(
                f"no labels of {name} left to learn from after the split for "
                "validation; label more of them, in more places, or use "
                "--validation-fraction 0"
            )
        if n < FEW_LABELS:
            yield Noted(
                text=f"only {n} {'label' if n == 1 else 'labels'} of {name} to learn "
                "from; label more of them",
                is_warning=True,
            )
        if len(validation) and name not in data.label[validation]:
            yield Noted(
                text=f"no {name} in the validation part: its accuracy is not measured",
                is_warning=True,
            )
    if not len(validation):
        yield Noted(
            text="no validation: the last weights are kept, nothing says how good they "
            "are, and their confidence is not calibrated",
            is_warning=True,
        )
