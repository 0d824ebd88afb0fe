"""What a student is to learn: the labels, and what its teachers say of all there is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.sources import load_unlabeled
from napari_ectkd.dataset.subtomograms import NO_TARGET
from napari_ectkd.distillation.objective import SoftLabels
from napari_ectkd.distillation.offsets import correct_classes
from napari_ectkd.distillation.soft_labels import (
    KeptOpinion,
    LiveOpinion,
    ask_once,
    ask_teachers,
)
from napari_ectkd.distillation.unlabeled import add_unlabeled, classed_by_teachers
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Noted
from napari_ectkd.training.lesson import Lesson
from napari_ectkd.training.loop import score_logits
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.provenance import fingerprint
from napari_ectkd.training.refit import is_wanted

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.distillation.objective import Opinion
    from napari_ectkd.distillation.soft_labels import Teacher
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.training.batches import Material

SOFT_LABELS = "soft_labels.safetensors"
"""What the teachers said, kept in a run's folder."""
SOFT_LABELS_OF_ALL = "soft_labels-from-all.safetensors"
"""What they said once they had learned from their validation part too."""


def with_unlabeled(
    material: Material,
    unlabeled: Sequence[Path],
    data_config: DataConfig,
    cancel: Cancel,
) -> Generator[Event, None, Material]:
    """Return the material with what nobody labeled in its training part.

    Parameters
    ----------
    material
        With labels.
    unlabeled
        STAR files or folders.
    data_config
        As the labels were read.
    cancel
        Looked at now and then.

    Raises
    ------
    EctkdError
        If the unlabeled ones are broken, or do not fit to the labeled ones.
    """
    found = yield from load_unlabeled(
        unlabeled, data_config, material.data.voxel_size, cancel=cancel
    )
    theirs = data_config.model_copy(update={"data": list(unlabeled)})
    both = add_unlabeled(material, found, fingerprint(theirs, found))
    n = len(both.split.training) - len(material.split.training)
    text = f"{n} unlabeled subtomograms to learn the teacher's opinion of"
    if n < len(found):
        text += f"; {len(found) - n} left out, too near to validation picks"
    yield Noted(text=text)
    return both


def prepare_lesson(
    teachers: Sequence[Teacher],
    material: Material,
    config: DistillConfig,
    folder: Path,
    cancel: Cancel,
) -> Generator[Event, None, Lesson]:
    """Ask teachers, and return what their student learns.

    A teacher that learned once more from all labels knows the validation part. What the
    student's figures are of learns from the teacher as it was before; a student that
    learns once more too then learns from the teacher that knows all.

    Parameters
    ----------
    teachers
        Frozen; several count as their mean.
    material
        Labeled and unlabeled subtomograms.
    config
        How the student learns.
    folder
        Where what they say is kept, for a run that is resumed.
    cancel
        Looked at once per batch.

    Raises
    ------
    ConfigError
        If they would have to be asked beforehand of what is simulated meanwhile.
    """
    if material.is_endless and config.teacher_sees == "particle":
        raise ConfigError(
            "with a stream of simulations the teacher cannot be asked beforehand; use "
            "--teacher-sees view"
        )
    validation = material.split.validation
    judged = [t.as_judged() for t in teachers] if len(validation) else list(teachers)
    said = yield from _asked(judged, material, config, folder / SOFT_LABELS, cancel)
    metrics: dict[str, float] = {}
    if len(validation):
        if said is None:
            told = yield from ask_teachers(
                judged, material.data, validation, material.classes, config, cancel
            )
        else:
            told = said[:, validation]
        truth = material.targets[validation]
        found, _ = score_logits(told.mean(dim=0), truth, material.classes)
        metrics = {"teacher_val_accuracy": found["val_accuracy"]}
        yield Noted(
            text=f"the teacher is right on {found['val_accuracy']:.1%} of the "
            "validation part; if it was trained on the same data, it has seen the "
            "rest"
        )
    lesson = _lesson(judged, said, material, config, cancel)
    if lesson.material.n_unlabeled:
        yield Noted(text=_say_classes(lesson.material))
    from_all = None
    if any(t.knows_more for t in teachers) and is_wanted(material, config):
        path = folder / SOFT_LABELS_OF_ALL
        said = yield from _asked(teachers, material, config, path, cancel)
        from_all = _lesson(teachers, said, material, config, cancel)
    return replace(lesson, constant_metrics=metrics, from_all=from_all)


def _asked(
    teachers: Sequence[Teacher],
    material: Material,
    config: DistillConfig,
    path: Path,
    cancel: Cancel,
) -> Generator[Event, None, Tensor | None]:
    """Return what teachers say of all data; None where they judge each view."""
    if config.teacher_sees == "view" and not _has_unlabeled(material):
        return None
    return (yield from ask_once(path, teachers, material, config, cancel))


def _lesson(
    teachers: Sequence[Teacher],
    said: Tensor | None,
    material: Material,
    config: DistillConfig,
    cancel: Cancel,
) -> Lesson:
    """Return what is to be learned from teachers, and from what they said."""
    correct = None
    if said is not None and _has_unlabeled(material):
        temperatures = [teacher.info.temperature for teacher in teachers]
        material = classed_by_teachers(
            material, said, temperatures, config.surest_share
        )
        if config.class_offsets:
            correct = partial(correct_classes, config=config, cancel=cancel)
    opinion: Opinion = LiveOpinion(teachers, material.classes)
    if said is not None and config.teacher_sees == "particle":
        opinion = KeptOpinion(said.mean(dim=0))
    objective = SoftLabels(opinion, config, HardLabels(config.label_smoothing))
    return Lesson(material, objective, correct)


def _has_unlabeled(material: Material) -> bool:
    return bool((material.targets == NO_TARGET).any())


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
