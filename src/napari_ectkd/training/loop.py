"""The loop: a model, batches and an objective, epoch after epoch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from napari_ectkd.dataset.augment import augment, wedge_rotations
from napari_ectkd.devices import choose_device, choose_precision
from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.metrics import class_report, confusion_matrix
from napari_ectkd.events import EpochEnd, Noted, Progress, Saved
from napari_ectkd.models.checkpoint import save_checkpoint
from napari_ectkd.models.inference import infer_logits, to_device, to_volumes
from napari_ectkd.models.narrow import has_narrow_convolution
from napari_ectkd.models.registry import find_model
from napari_ectkd.training.objective import Batch
from napari_ectkd.training.resume import load_state, save_state, seed_epoch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ectkd.dataset.sources import LabeledSubtomograms
    from napari_ectkd.dataset.split import Split
    from napari_ectkd.evaluation.metrics import Report
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.runs import Run
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.objective import Objective

STEPS = 1500
"""Batches that training takes by default; more changed little in our measurements."""
MOST_VALIDATIONS = 60
SECONDS_BETWEEN_SAVES = 20.0


@dataclass
class Material:
    """What the loop is given: a data set, which part of it teaches, and its classes."""

    data: LabeledSubtomograms
    split: Split
    targets: NDArray[np.int64]
    classes: list[str]


@dataclass
class _Standing:
    """How the run stands; saved with the state, so that it survives an interruption."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    best_metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def default_epochs(n_training: int, batch_size: int) -> int:
    """Return the passes over the training picks that make about `STEPS` batches."""
    return max(10, math.ceil(STEPS / _steps_per_epoch(n_training, batch_size)))


def fit(
    model: nn.Module,
    material: Material,
    objective: Objective,
    config: TrainConfig,
    run: Run,
    info: CheckpointInfo,
    *,
    cancel: Cancel,
    is_resumed: bool = False,
    constant_metrics: dict[str, float] | None = None,
) -> Generator[Event, None, dict[str, Any]]:
    """Train a model, its checkpoints into a run; return how it stands at the end.

    Parameters
    ----------
    model
        Freshly built, on the CPU.
    material
        What it learns from and is validated on.
    objective
        The loss.
    config
        Epochs, rates, augmentation, seed, device.
    run
        Where checkpoints go.
    info
        What goes into their header.
    cancel
        Looked at once per batch.
    is_resumed
        Whether to go on from the run's saved state.
    constant_metrics
        Added to each epoch's metrics (a teacher's accuracy, to be reached).

    Returns
    -------
    dict
        `best_epoch`, `seconds`, and the metrics of the best epoch.

    Raises
    ------
    DataError
        If the loss stops being a number.
    """
    n_training = len(material.split.training)
    epochs = config.epochs or default_epochs(n_training, config.batch_size)
    patience = config.patience or max(20, epochs // 3)
    stride = math.ceil(epochs / MOST_VALIDATIONS)
    has_validation = len(material.split.validation) > 0
    device = choose_device(config.device)
    dtype = choose_precision(device, config.precision)
    if device.type == "cpu" and dtype and has_narrow_convolution(model, info.box):
        dtype = None
        yield Noted(text=f"in float32: {info.box} voxels are too few for bfloat16 here")
    model = to_device(model, device)
    rate = config.learning_rate or find_model(info.model).learning_rate
    steps = _steps_per_epoch(n_training, config.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=rate,
        # A first batch at almost no rate: OneCycleLR cannot make a cycle of one step.
        total_steps=max(epochs * steps + 1, 4),
    )
    standing = _Standing()
    if is_resumed:
        standing = _Standing(**load_state(run.resume_path, model, optimizer, schedule))
        yield Noted(text=f"going on after epoch {standing.epoch} of {epochs}")
    started = time.monotonic() - standing.seconds
    last_save = time.monotonic()
    while standing.epoch < epochs:
        epoch = standing.epoch + 1
        metrics = yield from _train_epoch(
            model,
            _batches(material, config, device, seed_epoch(config.seed, epoch)),
            objective,
            optimizer,
            schedule,
            dtype,
            cancel=cancel,
            stage=f"epoch {epoch} of {epochs}",
            total=steps,
        )
        is_last = epoch == epochs
        if has_validation and (epoch % stride == 0 or is_last):
            validated, _ = yield from validate(
                model, material, device, dtype, config.batch_size, cancel
            )
            metrics |= validated
        standing.epoch = epoch
        standing.seconds = time.monotonic() - started
        left = standing.seconds / epoch * (epochs - epoch)
        yield EpochEnd(
            epoch=epoch,
            epochs=epochs,
            metrics=metrics | (constant_metrics or {}),
            seconds_left=left,
        )
        marked = info.model_copy(update={"epoch": epoch, "metrics": metrics})
        # Without validation the last weights are all there is to choose from.
        improves = is_last and not has_validation
        if "val_loss" in metrics:
            improves = metrics["val_loss"] < standing.best_loss
            standing.best_loss = min(metrics["val_loss"], standing.best_loss)
        if improves:
            standing.best_epoch, standing.best_metrics = epoch, metrics
            save_checkpoint(run.best_path, model, marked)
        is_patient = epoch - standing.best_epoch < patience or not standing.best_epoch
        is_over = is_last or not is_patient
        is_time = time.monotonic() - last_save > SECONDS_BETWEEN_SAVES
        if is_over or is_time or not run.resume_path.exists():
            last_save = time.monotonic()
            save_checkpoint(run.last_path, model, marked)
            save_state(run.resume_path, model, optimizer, schedule, vars(standing))
        if not is_patient:
            yield Noted(
                text=f"stopped after epoch {epoch}: no lower validation loss since "
                f"epoch {standing.best_epoch}"
            )
            break
    run.resume_path.unlink(missing_ok=True)
    yield Saved(what="model", path=str(run.best_path))
    return {
        "best_epoch": standing.best_epoch,
        "seconds": standing.seconds,
        **standing.best_metrics,
    }


def validate(
    model: nn.Module,
    material: Material,
    device: torch.device,
    dtype: torch.dtype | None,
    batch_size: int,
    cancel: Cancel,
) -> Generator[Event, None, tuple[dict[str, float], Report]]:
    """Return loss, accuracy and macro F1 on the validation part, and the report."""
    index = material.split.validation
    logits = yield from infer_logits(
        model,
        material.data.read,
        index,
        device=device,
        dtype=dtype,
        batch_size=2 * batch_size,
        cancel=cancel,
        stage="validate",
    )
    return score_logits(logits, material.targets[index], material.classes)


def score_logits(
    logits: Tensor, targets: NDArray[np.int64], classes: list[str]
) -> tuple[dict[str, float], Report]:
    """Return `val_` metrics and the report of logits `(n, k)` against class indices."""
    names = np.array(classes, dtype=object)
    predicted = names[logits.argmax(dim=1).numpy()]
    report = class_report(confusion_matrix(names[targets], predicted, classes), classes)
    loss = functional.cross_entropy(logits, torch.from_numpy(targets))
    return {
        "val_loss": float(loss),
        "val_accuracy": report.accuracy,
        "val_macro_f1": report.macro_f1,
    }, report


def _train_epoch(
    model: nn.Module,
    batches: Iterator[Batch],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    dtype: torch.dtype | None,
    *,
    cancel: Cancel,
    stage: str,
    total: int,
) -> Generator[Event, None, dict[str, float]]:
    model.train()
    losses, n_right, n_seen = [], 0, 0
    start = last = time.monotonic()
    for number, batch in enumerate(batches, start=1):
        cancel.check()
        device = batch.volumes.device.type
        with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            terms = objective(model, batch)
        if not torch.isfinite(terms.loss):
            raise DataError(
                "the loss is not a number any more: take a lower --learning-rate, or "
                "--precision float32"
            )
        optimizer.zero_grad(set_to_none=True)
        terms.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(terms.loss.detach()))
        n_right += int((terms.logits.argmax(dim=1) == batch.targets).sum())
        n_seen += len(batch.targets)
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            yield Progress(stage=stage, done=number, total=total)
    return {
        "loss": float(np.mean(losses)),
        "accuracy": n_right / n_seen,
        "learning_rate": float(schedule.get_last_lr()[0]),
        "per_second": n_seen / (time.monotonic() - start),
    }


def _steps_per_epoch(n_training: int, batch_size: int) -> int:
    return max(n_training // batch_size, 1)


def _batches(
    material: Material,
    config: TrainConfig,
    device: torch.device,
    generator: torch.Generator,
) -> Iterator[Batch]:
    """Yield one pass over the training part, in a new order, augmented."""
    training = material.split.training
    order = training[torch.randperm(len(training), generator=generator).numpy()]
    rotations = wedge_rotations(material.data.tilt_range)
    if not config.rotations:
        rotations = rotations[:1]
    for step in range(_steps_per_epoch(len(training), config.batch_size)):
        index = order[step * config.batch_size : (step + 1) * config.batch_size]
        volumes = to_volumes(material.data.read(index), device)
        yield Batch(
            augment(volumes, rotations, config.shift, generator),
            torch.from_numpy(material.targets[index]).to(device),
            torch.from_numpy(index),
        )
