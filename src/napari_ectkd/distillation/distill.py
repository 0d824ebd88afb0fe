"""The stage: from teachers' runs and a data set to a run with a student."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.sources import load_unlabeled
from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.devices import choose_device
from napari_ectkd.distillation.baseline import learn_baseline, with_baseline
from napari_ectkd.distillation.comparison import compare
from napari_ectkd.distillation.objective import SoftLabels
from napari_ectkd.distillation.offsets import correct_classes
from napari_ectkd.distillation.soft_labels import (
    KeptOpinion,
    LiveOpinion,
    ask_once,
    ask_teachers,
    check_teacher,
    load_teacher,
)
from napari_ectkd.distillation.unlabeled import add_unlabeled, classed_by_teachers
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Finished, Noted
from napari_ectkd.models.registry import find_model
from napari_ectkd.runs import members_of
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.loop import score_logits
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.provenance import fingerprint
from napari_ectkd.training.train import prepare
from napari_ectkd.training.workers import rank_from_environment

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.distillation.objective import Opinion
    from napari_ectkd.distillation.soft_labels import Teacher
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material


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
    choose_device(config.device)
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
    material = yield from prepare(data_config, config, cancel)
    data, classes = material.data, material.classes
    for teacher in teachers:
        check_teacher(teacher, data, classes)
    if material.is_endless and (config.teacher_sees == "particle" or config.unlabeled):
        raise ConfigError(
            "with a stream of simulations the teacher cannot be asked beforehand; use "
            "--teacher-sees view, and no --unlabeled"
        )
    name = config.model or "compact"
    baseline, curve = None, dict[int, float]()
    if config.baseline:
        baseline, curve = yield from learn_baseline(name, material, config, run, cancel)
    if config.unlabeled:
        unlabeled = yield from load_unlabeled(
            config.unlabeled, data_config, data.voxel_size, cancel=cancel
        )
        n = len(material.split.training)
        theirs = data_config.model_copy(update={"data": config.unlabeled})
        material = add_unlabeled(material, unlabeled, fingerprint(theirs, unlabeled))
        n = len(material.split.training) - n
        text = f"{n} unlabeled subtomograms to learn the teacher's opinion of"
        if n < len(unlabeled):
            text += f"; {len(unlabeled) - n} left out, too near to validation picks"
        yield Noted(text=text)
        data = material.data
    validation = material.split.validation
    opinion: Opinion
    if config.teacher_sees == "particle" or config.unlabeled:
        said = yield from ask_once(
            run.path / "soft_labels.safetensors",
            teachers,
            material,
            config,
            cancel,
        )
        opinion = KeptOpinion(said.mean(dim=0))
        if config.unlabeled:
            material = classed_by_teachers(
                material,
                said,
                [teacher.info.temperature for teacher in teachers],
                config.surest_share,
            )
            yield Noted(text=_say_classes(material))
    if config.teacher_sees == "view":
        opinion = LiveOpinion(teachers, classes)
    to_reach: dict[str, float] = {}
    if len(validation):
        judged = [teacher.as_judged() for teacher in teachers]
        said = yield from ask_teachers(
            judged, data, validation, classes, config, cancel
        )
        metrics, _ = score_logits(
            said.mean(dim=0), material.targets[validation], classes
        )
        to_reach = {"teacher_val_accuracy": metrics["val_accuracy"]}
        yield Noted(
            text=f"the teacher is right on {metrics['val_accuracy']:.1%} of the "
            "validation part; if it was trained on the same data, it has seen the "
            "rest"
        )
    objective = SoftLabels(opinion, config, HardLabels(config.label_smoothing))
    corrects = config.class_offsets and config.unlabeled
    learner = Learner.create(name, material, config, trained_by="distill")
    stream = learner.learn(
        objective,
        material,
        config,
        run,
        cancel=cancel,
        is_resumed=is_resumed and run.resume_path.exists(),
        constant_metrics=to_reach,
        correct=partial(correct_classes, config=config, cancel=cancel)
        if corrects
        else None,
    )
    yield from with_baseline(stream, curve)
    if rank_from_environment():  # the first process measures, undisturbed
        yield Finished(result=learner.result)
        return
    found = yield from compare(
        teachers, learner, run, material, config, cancel, baseline
    )
    result = learner.result | found | to_reach
    if config.unlabeled:
        taught = material.targets[material.split.training]
        result["n_unlabeled"] = int((taught == NO_TARGET).sum())
    yield Finished(result=result)


def _say_classes(material: Material) -> str:
    """Say what the teachers take the unlabeled subtomograms for."""
    groups = material.targets if material.groups is None else material.groups
    training = material.split.training
    unlabeled = training[material.targets[training] == NO_TARGET]
    counts = np.bincount(groups[unlabeled], minlength=len(material.classes))
    text = ", ".join(
        f"{name} {n}" for name, n in zip(material.classes, counts, strict=True)
    )
    left_out = int((material.targets == NO_TARGET).sum()) - len(unlabeled)
    text = f"the teacher takes the unlabeled ones for {text}"
    return text + (f"; {left_out} not learned from" if left_out else "")
