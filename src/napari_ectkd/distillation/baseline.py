"""The same student taught by labels alone: what the teacher is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.events import (
    Cancelled,
    CancelledError,
    EpochEnd,
    Finished,
    Noted,
    Progress,
)
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.lesson import Lesson
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.workers import Workers, choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.config import TrainConfig


def learn_baseline(
    name: str, material: Material, config: TrainConfig, run: Run, cancel: Cancel
) -> Generator[Event, None, tuple[Learner, dict[int, float]]]:
    """Train a student on the labels alone, in a run folder inside the distillation's.

    Seed, augmentation and number of batches are those of the distillation. One that is
    there already is not trained again.

    Returns
    -------
    tuple
        The learner, and its validation accuracy by epoch.
    """
    own = run.baseline
    config = config.model_copy(update={"refit": False})  # it is there to be judged
    learner = Learner.create(name, material, config, trained_by="train")
    workers = Workers.join(choose_worker_device(config.device))
    # Of several processes the first one alone looks at the folder and writes to it.
    is_over, is_resumed = workers.first_s((_is_over(own), own.resume_path.exists()))
    if not is_over:
        log = own.log if workers.is_first else _nowhere
        if workers.is_first:
            own.begin()
        try:
            stream = learner.learn(
                Lesson(material, HardLabels(config.label_smoothing)),
                config,
                own,
                cancel=cancel,
                is_resumed=is_resumed,
            )
            for event in stream:
                log(event)
                if isinstance(event, EpochEnd):
                    yield Progress(
                        stage="on labels alone, to compare with",
                        done=event.epoch,
                        total=event.epochs,
                        seconds_left=event.seconds_left,
                    )
        except CancelledError:
            log(Cancelled())
            raise
        log(Finished(result=learner.result))
    learner.load(own)
    curve = workers.first_s(
        {
            event.epoch: event.metrics["val_accuracy"]
            for event in own.events()
            if isinstance(event, EpochEnd) and "val_accuracy" in event.metrics
        }
    )
    if curve:
        accuracy = learner.info.metrics["val_accuracy"]
        yield Noted(
            text=f"the same student is right on {accuracy:.1%} of the validation part "
            "if it learns from labels alone"
        )
    return learner, curve


def with_baseline(
    events: Iterator[Event], curve: dict[int, float]
) -> Generator[Event, None, None]:
    """Yield events, their epochs with the accuracy of the student on labels alone."""
    for event in events:
        if isinstance(event, EpochEnd) and event.epoch in curve:
            more = {"baseline_val_accuracy": curve[event.epoch]}
            yield event.model_copy(update={"metrics": event.metrics | more})
        else:
            yield event


def _nowhere(_event: Event) -> None:
    pass


def _is_over(run: Run) -> bool:
    last = None
    for event in run.events():
        last = event
    return isinstance(last, Finished) and run.best_path.exists()
