"""Once more, from all labels: those that were kept for validation teach too.

A run's figures come from labels that its model has not seen, and keeping those costs
accuracy where labels are few. So another model with the same first weights learns from
all of them, for as many batches. It becomes the run's model; the figures, the
temperature and the threshold for *unknown* stay those of the first, which is kept
beside it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.events import EpochEnd, Noted, Progress
from napari_ectkd.io.atomic import atomic_path, make_folder
from napari_ectkd.models.checkpoint import load_checkpoint, save_checkpoint
from napari_ectkd.training.defaults import wants_all
from napari_ectkd.training.loop import fit
from napari_ectkd.training.workers import (
    Workers,
    choose_worker_device,
    rank_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.lesson import Lesson


def is_wanted(material: Material, config: TrainConfig) -> bool:
    """Return whether a model should learn once more, from all labels of a material.

    A stream has no end: there is no label that it could learn from too.
    """
    counts = [int((material.targets == i).sum()) for i in range(len(material.classes))]
    has_validation = len(material.split.validation) > 0
    return has_validation and not material.is_endless and wants_all(config, counts)


def lengthened(
    stream: Generator[Event, None, dict[str, Any]],
) -> Generator[Event, None, dict[str, Any]]:
    """Yield the events of a training, their time left with that of another as long."""
    while True:
        try:
            event = next(stream)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result
        if isinstance(event, EpochEnd) and event.seconds_left is not None:
            n_left = event.epochs - event.epoch
            # At the end nothing tells the pace any more.
            pace = event.seconds_left / n_left if n_left else None
            longer = pace and event.seconds_left + pace * event.epochs
            event = event.model_copy(update={"seconds_left": longer})
        yield event


def begin(run: Run, result: dict[str, Any]) -> None:
    """Keep a run's model as the one that its figures are of, and its result."""
    with atomic_path(run.validated_path) as temporary:
        shutil.copyfile(run.best_path, temporary)
    make_folder(run.on_all.path)
    run.on_all.keep_result(result)


def has_begun(run: Run) -> bool:
    """Return whether a run was stopped while it learned once more."""
    return run.on_all.result_path.exists()


def result_so_far(run: Run) -> dict[str, Any]:
    """Return the result that was kept when it began."""
    found: dict[str, Any] = json.loads(run.on_all.result_path.read_text())
    return found


def learn_from_all(
    model: nn.Module,
    info: CheckpointInfo,
    lesson: Lesson,
    config: TrainConfig,
    run: Run,
    *,
    cancel: Cancel,
) -> Generator[Event, None, float]:
    """Train another model on all there is, and make it the run's best.

    Parameters
    ----------
    model
        As it was before it learned anything here.
    info
        Of the validated model: what the new one's checkpoint will say.
    lesson
        What it learns: of the validation part the labels too.
    config, cancel
        As those of the validated model.
    run
        Whose validated model is kept already.

    Returns
    -------
    seconds
        That it took.
    """
    own = run.on_all
    material = lesson.material
    split = material.split
    # All labels; of the unlabeled ones those that have taught before.
    labeled = np.flatnonzero(material.targets != NO_TARGET)
    everything = type(split)(
        np.union1d(labeled, split.training), split.validation[:0], "all of them"
    )
    everyone = replace(material, split=everything)
    workers = Workers.join(choose_worker_device(config.device))
    yield Noted(text="learning once more, from the validation part too")
    stream = fit(
        model,
        everyone,
        lesson.objective,
        config,
        own,
        info,
        cancel=cancel,
        is_resumed=workers.first_s(own.resume_path.exists()),
    )
    while True:
        try:
            event = next(stream)
        except StopIteration as end:
            standing = end.value
            break
        if isinstance(event, EpochEnd):
            yield Progress(
                stage="once more, from all labels",
                done=event.epoch,
                total=event.epochs,
                seconds_left=event.seconds_left,
            )
        elif isinstance(event, Noted):
            yield event
    if rank_from_environment() == 0:
        model, _ = load_checkpoint(own.best_path)
        if lesson.correct:
            yield from lesson.correct(model, everyone)
        save_checkpoint(run.best_path, model, info)
        shutil.rmtree(own.path)
    return float(standing["seconds"])
