"""The loop: a model, batches and an objective, epoch after epoch."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from napari_ectkd.devices.compiler import compiler_problem
from napari_ectkd.devices.memory import used_memory
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.evaluation.metrics import class_report, confusion_matrix
from napari_ectkd.events import EpochEnd, Noted, Progress, Saved
from napari_ectkd.models.inference import infer_logits, to_device
from napari_ectkd.models.narrow import has_narrow_convolution
from napari_ectkd.models.registry import find_model
from napari_ectkd.training.defaults import default_epochs, default_patience
from napari_ectkd.training.examples import N_EXAMPLES, save_examples
from napari_ectkd.training.keeping import Keeper
from napari_ectkd.training.optimizers import make_optimizer
from napari_ectkd.training.resume import seed_epoch
from napari_ectkd.training.step import Stepper, Tally
from napari_ectkd.training.watch import RECALL, Watch
from napari_ectkd.training.workers import Workers, choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ectkd.evaluation.metrics import Report
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import BatchSource, Loaded, Material
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.objective import Objective

MOST_VALIDATIONS = 60


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

    The state to go on from stays: it is for the caller to remove once nothing is lost
    without it. A run that is resumed after its last epoch returns at once.

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
        If the loss stops being a number, or not even one subtomogram fits the memory.
    ConfigError
        If a batch is too small for the processes that share it.
    """
    n_training = material.n_training
    epochs = n_epochs(material, config)
    stride = math.ceil(epochs / MOST_VALIDATIONS)
    has_validation = len(material.split.validation) > 0
    device = choose_worker_device(config.device)
    dtype = choose_precision(device, config.precision)
    if device.type == "cpu" and dtype and has_narrow_convolution(model, info.box):
        dtype = None
        yield Noted(text=f"in float32: {info.box} voxels are too few for bfloat16 here")
    workers = Workers.join(device)
    dtype = workers.agreed(dtype)
    is_resumed = workers.first_s(is_resumed)
    if min(n_training, config.batch_size) < workers.n:
        raise ConfigError(
            f"{min(n_training, config.batch_size)} subtomograms in a batch cannot be "
            f"shared by {workers.n} processes; take a larger --batch-size or fewer"
        )
    model = to_device(model, device)
    spec = find_model(info.model)
    batches = material.batches(config, device, workers)
    if spec.optimizer == "sgd" and config.weight_decay != type(config)().weight_decay:
        yield Noted(text=f"{info.model} learns as published, without weight decay")
    optimizer, schedule = make_optimizer(
        spec.optimizer,
        model,
        config.learning_rate or spec.learning_rate,
        config.weight_decay,
        epochs * len(batches),
    )
    keeper = Keeper(
        run,
        info,
        model,
        optimizer,
        schedule,
        patience=config.patience or default_patience(epochs),
        is_writing=workers.is_first,
    )
    if is_resumed:
        keeper.load()
        if len(set(workers.all_of(keeper.standing.epoch))) > 1:
            raise DataError(
                f"{run.path}: not all processes see the same state of the run; wait "
                "until their file systems do, and resume it again"
            )
        yield Noted(text=f"going on after epoch {keeper.standing.epoch} of {epochs}")
    standing = keeper.standing
    if workers.n > 1:
        yield Noted(text=_say_workers(workers, device, config.batch_size))
    if workers.is_first and not is_resumed:
        yield _save_examples(batches, material, config, run)
    learning = model
    if config.compile:
        if problem := compiler_problem(device, workers.n):
            yield Noted(text=f"not compiled: {problem}", is_warning=True)
        else:
            learning = torch.compile(model)  # type: ignore[assignment]
    stepper = Stepper(
        workers.wrap(learning),
        objective,
        optimizer,
        schedule,
        device=device,
        dtype=dtype,
        most_at_once=standing.most_at_once,
        loss_scale=standing.loss_scale,
        workers=workers,
    )
    watch = Watch(len(material.classes), epochs)
    started = time.monotonic() - standing.seconds
    while standing.epoch < epochs and keeper.is_patient():
        epoch = standing.epoch + 1
        metrics = yield from _train_epoch(
            model,
            stepper,
            batches.epoch(epoch, seed_epoch(config.seed, epoch)),
            workers,
            cancel=cancel,
            stage=f"epoch {epoch} of {epochs}",
            total=len(batches),
        )
        metrics["learning_rate"] = float(schedule.get_last_lr()[0])
        metrics["memory_gib"] = used_memory(device) / 2**30
        is_last = epoch == epochs
        if has_validation and (epoch % stride == 0 or is_last):
            if workers.is_first:
                # Without gradients twice as many fit.
                at_once = 2 * (stepper.most_at_once or config.batch_size)
                validated, report = yield from validate(
                    model, material, device, dtype, at_once, cancel
                )
                metrics |= validated | recalls(report)
            metrics = workers.first_s(metrics)
        standing.epoch = epoch
        standing.seconds = time.monotonic() - started
        standing.most_at_once = stepper.most_at_once
        standing.loss_scale = stepper.loss_scale()
        left = standing.seconds / epoch * (epochs - epoch)
        yield EpochEnd(
            epoch=epoch,
            epochs=epochs,
            metrics=metrics | (constant_metrics or {}),
            seconds_left=left,
        )
        yield from watch.look(epoch, metrics)
        keeper.keep(metrics, is_last=is_last)
    if standing.epoch < epochs:
        yield Noted(
            text=f"stopped after epoch {standing.epoch}: no lower validation loss "
            f"since epoch {standing.best_epoch}"
        )
    workers.wait()  # until the first one has saved
    yield Saved(what="model", path=str(run.best_path))
    return {
        "best_epoch": standing.best_epoch,
        "seconds": standing.seconds,
        **standing.best_metrics,
    }


def n_epochs(material: Material, config: TrainConfig) -> int:
    """Return how many passes over the material training takes at most."""
    return config.epochs or default_epochs(material.n_training, config.batch_size)


def validate(
    model: nn.Module,
    material: Material,
    device: torch.device,
    dtype: torch.dtype | None,
    batch_size: int,
    cancel: Cancel,
) -> Generator[Event, None, tuple[dict[str, float], Report]]:
    """Return loss, accuracy and macro F1 on the validation part, and the report."""
    logits = yield from validation_logits(
        model, material, device, dtype, batch_size, cancel
    )
    targets = material.targets[material.split.validation]
    return score_logits(logits, targets, material.classes)


def validation_logits(
    model: nn.Module,
    material: Material,
    device: torch.device,
    dtype: torch.dtype | None,
    batch_size: int,
    cancel: Cancel,
) -> Generator[Event, None, Tensor]:
    """Return what a model says of the validation part, `(n, k)`, float32, on CPU."""
    return (
        yield from infer_logits(
            model,
            material.data.read,
            material.split.validation,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            cancel=cancel,
            stage="validate",
        )
    )


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
    stepper: Stepper,
    batches: Iterator[Loaded],
    workers: Workers,
    *,
    cancel: Cancel,
    stage: str,
    total: int,
) -> Generator[Event, None, dict[str, float]]:
    model.train()
    tally = Tally()
    start = last = time.monotonic()
    for number, loaded in enumerate(batches, start=1):
        # All of them stop, or none: the others would wait for the one that did.
        if workers.any(cancel.is_requested):
            cancel.request()
        cancel.check()
        yield from stepper.step(loaded, tally)
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            yield Progress(stage=stage, done=number, total=total)
    n = workers.total(tally.n)
    return {
        "loss": workers.total(tally.loss) / n,
        "accuracy": workers.total(tally.n_right)
        / max(workers.total(tally.n_labeled), 1),
        "per_second": n / (time.monotonic() - start),
    }


def recalls(report: Report) -> dict[str, float]:
    """Return the recall of each class that the validation part has."""
    return {
        RECALL + name: scores.recall
        for name, scores in report.classes.items()
        if scores.support
    }


def _save_examples(
    batches: BatchSource, material: Material, config: TrainConfig, run: Run
) -> Saved:
    """Write what the network is going to see, some subtomograms of each class."""
    n = max(N_EXAMPLES, len(material.classes))
    # A generator of its own: drawing examples changes nothing of the training.
    generator = torch.Generator().manual_seed(config.seed)
    save_examples(run, batches.examples(n, generator), material.classes)
    return Saved(what="examples", path=str(run.examples_path))


def _say_workers(workers: Workers, device: torch.device, batch_size: int) -> str:
    text = f"{workers.n} processes share each batch of {batch_size}"
    if device.type != "cuda":
        text += "; batch normalization sees each process's share alone"
    return text
