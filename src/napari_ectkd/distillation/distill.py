"""The stage: from teachers' runs and a data set to a run with a student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.distillation.baseline import learn_baseline, with_baseline
from napari_ectkd.distillation.comparison import compare
from napari_ectkd.distillation.lessons import prepare_lesson, with_unlabeled
from napari_ectkd.distillation.soft_labels import check_teacher, load_teacher
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Finished
from napari_ectkd.models.registry import find_model
from napari_ectkd.runs import members_of
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.train import prepare
from napari_ectkd.training.workers import (
    Workers,
    choose_worker_device,
    rank_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.distillation.soft_labels import Teacher
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run


def distill(
    teachers: Sequence[Path],
    data_config: DataConfig,
    config: DistillConfig,
    run: Run,
    *,
    cancel: Cancel,
    is_resumed: bool = False,
) -> Iterator[Event]:
    """Train a student on the soft labels of teachers; several count as their mean.

    Parameters
    ----------
    teachers
        Run folders or checkpoint files; the run of an ensemble stands for its members.
    data_config
        The subtomograms, with labels; the config names those without.
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
        If a teacher cannot be loaded or a setting cannot work; from the first event on
        also if the data is broken or does not fit the teachers.
    """
    if not teachers:
        raise ConfigError("no teacher to learn from (--teacher RUN)")
    choose_worker_device(config.device)
    find_model(config.model or "compact")
    if is_resumed:
        run.check_resumable()
    loaded = [load_teacher(member) for path in teachers for member in members_of(path)]
    return _distill(loaded, data_config, config, run, cancel, is_resumed)


def _distill(
    teachers: list[Teacher],
    data_config: DataConfig,
    config: DistillConfig,
    run: Run,
    cancel: Cancel,
    is_resumed: bool,
) -> Generator[Event, None, None]:
    labeled = yield from prepare(data_config, config, cancel)
    for teacher in teachers:
        check_teacher(teacher, labeled.data, labeled.classes)
    if labeled.is_endless and config.unlabeled:
        raise ConfigError(
            "with a stream of simulations every subtomogram has a label; leave the "
            "unlabeled ones out (--unlabeled)"
        )
    material = labeled
    if config.unlabeled:
        material = yield from with_unlabeled(
            labeled, config.unlabeled, data_config, cancel
        )
    name = config.model or "compact"
    baseline, curve = None, dict[int, float]()
    if config.baseline:
        baseline, curve = yield from learn_baseline(name, labeled, config, run, cancel)
    lesson = yield from prepare_lesson(teachers, material, config, run.path, cancel)
    learner = Learner.create(name, lesson.material, config, trained_by="distill")
    workers = Workers.join(choose_worker_device(config.device))
    has_state = workers.first_s(run.resume_path.exists())
    stream = learner.learn(
        lesson, config, run, cancel=cancel, is_resumed=is_resumed and has_state
    )
    yield from with_baseline(stream, curve)
    if rank_from_environment():  # the first process measures, undisturbed
        yield Finished(result=learner.result)
        return
    found = yield from compare(
        teachers, learner, run, lesson.material, config, cancel, baseline
    )
    result = learner.result | found | lesson.constant_metrics
    if config.unlabeled:
        result["n_unlabeled"] = lesson.material.n_unlabeled
    yield Finished(result=result)
