"""What the teachers think: asked once of a data set and kept, or batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_ectkd.dataset.augment import wedge_rotations
from napari_ectkd.dataset.crop import is_same_voxel_size
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.errors import DataError
from napari_ectkd.events import Noted
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.checkpoint import checkpoint_path, load_checkpoint
from napari_ectkd.models.inference import infer_logits, to_device
from napari_ectkd.runs import Run
from napari_ectkd.training.workers import Workers, choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ectkd.dataset.subtomograms import LabeledSubtomograms
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.objective import Batch


@dataclass(frozen=True)
class Teacher:
    """A trained model that does not change any more.

    Attributes
    ----------
    judged, judged_path
        The model that its figures are of, if another learned from all labels; else the
        same.
    """

    name: str
    path: Path
    model: nn.Module
    info: CheckpointInfo
    judged: nn.Module
    judged_path: Path

    @property
    def knows_more(self) -> bool:
        """Whether it learned more than what its figures are of: its validation part."""
        return self.judged is not self.model

    def as_judged(self) -> Teacher:
        """Return the teacher without what it learned from its validation part."""
        return replace(self, model=self.judged, path=self.judged_path)

    def order(self, classes: Sequence[str]) -> list[int]:
        """Return where the teacher's logits have these classes."""
        return [self.info.classes.index(name) for name in classes]


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
    judged, judged_path = model, checkpoint_path(path)
    if path.is_dir() and Run(path).validated_path.exists():
        judged_path = Run(path).validated_path
        judged, _ = load_checkpoint(judged_path)
        judged.requires_grad_(False)
    return Teacher(name, checkpoint_path(path), model, info, judged, judged_path)


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
    index: NDArray[np.int64],
    classes: Sequence[str],
    config: TrainConfig,
    cancel: Cancel,
) -> Generator[Event, None, Tensor]:
    """Return logits `(teachers, len(index), k)`, classes in the order of `classes`.

    They are averaged over the rotations that keep the missing wedge: several looks at
    the same particle. Of several processes each asks for its share, on its own device.
    """
    device = choose_worker_device(config.device)
    workers = Workers.join(device)
    is_shared = len(index) >= workers.n  # nobody is left without
    share = index[workers.share(len(index))] if is_shared else index
    opinions = []
    for teacher in teachers:
        logits = yield from infer_logits(
            to_device(teacher.model, device),
            data.read,
            share,
            device=device,
            dtype=choose_precision(device, config.precision),
            batch_size=64,
            cancel=cancel,
            views=wedge_rotations(data.tilt_range),
            stage=f"soft labels of {teacher.name}",
        )
        opinions.append(logits[:, teacher.order(classes)])
        teacher.model.to("cpu")
    said = torch.stack(opinions)
    return workers.joined(said, dim=1) if is_shared else said


def ask_once(
    path: Path,
    teachers: Sequence[Teacher],
    material: Material,
    config: TrainConfig,
    cancel: Cancel,
) -> Generator[Event, None, Tensor]:
    """Return `ask_teachers` of all data; kept in a file for a run that is resumed.

    They are asked again if they, or the data, are not what they were.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    digests = [sha256(teacher.path.read_bytes()).hexdigest() for teacher in teachers]
    data, classes = material.data, material.classes
    key = " ".join([*digests, *classes, str(len(data)), material.fingerprint])
    workers = Workers.join(choose_worker_device(config.device))
    kept: Tensor | None = None
    if workers.is_first and path.exists():
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("asked") == key:
                    kept = file.get_tensor("logits")
        except SafetensorError:
            yield Noted(text=f"{path.name} is broken: the teachers are asked again")
    kept = workers.first_s(kept)
    if kept is not None:
        return kept
    logits = yield from ask_teachers(
        teachers, data, np.arange(len(data)), classes, config, cancel
    )
    if workers.is_first:
        with atomic_path(path) as temporary:
            save_file(
                {"logits": logits.contiguous()}, temporary, metadata={"asked": key}
            )
    return logits


@dataclass(frozen=True)
class KeptOpinion:
    """What the teachers said of each subtomogram: `(n, k)` logits, asked once."""

    logits: Tensor

    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits of a batch."""
        return self.logits[batch.index]


@dataclass(frozen=True)
class LiveOpinion:
    """The teachers' mean logits of the very view that the student sees.

    References
    ----------
    Beyer et al. (2022), arXiv:2106.05237: teacher and student on the same view.
    """

    teachers: Sequence[Teacher]
    classes: Sequence[str]

    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits of a batch; no gradient reaches the teachers."""
        with torch.no_grad():
            said = [
                to_device(teacher.model, batch.volumes.device)(batch.volumes).float()[
                    :, teacher.order(self.classes)
                ]
                for teacher in self.teachers
            ]
        return torch.stack(said).mean(dim=0)
