"""What the teachers think of a data set, asked once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.dataset.crop import is_same_voxel_size
from napari_ectkd.devices import choose_device, choose_precision
from napari_ectkd.errors import DataError
from napari_ectkd.models.checkpoint import checkpoint_path, load_checkpoint
from napari_ectkd.models.inference import infer_logits, to_device

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from napari_ectkd.dataset.sources import LabeledSubtomograms
    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo


@dataclass(frozen=True)
class Teacher:
    """A trained model that does not change any more."""

    name: str
    path: Path
    model: nn.Module
    info: CheckpointInfo


def load_teacher(path: Path) -> Teacher:
    """Return the teacher of a run folder or checkpoint file, frozen, in eval mode.

    Raises
    ------
    FileMissingError, FormatError
        As `load_checkpoint`.
    """
    model, info = load_checkpoint(path)
    model.requires_grad_(False)
    name = path.name if path.is_dir() else path.stem
    return Teacher(name, checkpoint_path(path), model, info)


def check_teacher(
    teacher: Teacher, data: LabeledSubtomograms, classes: Sequence[str]
) -> None:
    """Raise `DataError` if a teacher cannot judge a data set."""
    info = teacher.info
    if set(info.classes) != set(classes):
        theirs = ", ".join(sorted(set(info.classes) - set(classes))) or "nothing more"
        ours = ", ".join(sorted(set(classes) - set(info.classes))) or "nothing more"
        raise DataError(
            f"teacher {teacher.name} and the data have other classes: the teacher "
            f"knows {theirs}, the data {ours}; train a teacher on this data"
        )
    if info.box != data.box or not is_same_voxel_size(info.voxel_size, data.voxel_size):
        raise DataError(
            f"teacher {teacher.name} was trained on {info.box} voxels of "
            f"{info.voxel_size:g} Å, the data has {data.box} of {data.voxel_size:g} Å; "
            "they must be the same"
        )
    if info.normalization.mode != data.mode:
        raise DataError(
            f"teacher {teacher.name} was trained on subtomograms normalized by "
            f"{info.normalization.mode}, the data is by {data.mode} (--normalize)"
        )


def ask_teachers(
    teachers: Sequence[Teacher],
    data: LabeledSubtomograms,
    classes: Sequence[str],
    config: DistillConfig,
    cancel: Cancel,
) -> Generator[Event, None, list[Tensor]]:
    """Return each teacher's logits `(n, k)`, its classes in the order of `classes`.

    They are averaged over the rotations that keep the missing wedge: several looks at
    the same particle.
    """
    device = choose_device(config.device)
    opinions = []
    for teacher in teachers:
        logits = yield from infer_logits(
            to_device(teacher.model, device),
            data.read,
            np.arange(len(data)),
            device=device,
            dtype=choose_precision(device, config.precision),
            batch_size=64,
            cancel=cancel,
            views=wedge_rotations(data.tilt_range),
            stage=f"soft labels of {teacher.name}",
        )
        order = [teacher.info.classes.index(name) for name in classes]
        opinions.append(logits[:, order])
        teacher.model.to("cpu")
    return opinions
