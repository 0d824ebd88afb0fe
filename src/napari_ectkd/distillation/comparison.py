"""A student beside its teachers, each as it would be used, and where they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_ectkd.devices import choose_device, choose_precision
from napari_ectkd.evaluation.agreement import agreement
from napari_ectkd.evaluation.calibration import softmax
from napari_ectkd.evaluation.metrics import calibration_error
from napari_ectkd.events import Progress
from napari_ectkd.models.checkpoint import checkpoint_path
from napari_ectkd.models.cost import count_macs, count_parameters, time_models
from napari_ectkd.models.inference import to_device
from napari_ectkd.training.loop import score_logits, validation_logits

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from napari_ectkd.distillation.soft_labels import Teacher
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.runs import Run
    from napari_ectkd.training.batches import Material
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.learner import Learner


def compare(
    teachers: Sequence[Teacher],
    student: Learner,
    run: Run,
    material: Material,
    config: TrainConfig,
    cancel: Cancel,
    baseline: Learner | None = None,
) -> Generator[Event, None, dict[str, Any]]:
    """Measure a student and its teachers on the validation part and on this machine.

    Each looks once at each subtomogram, as in `ectkd classify`, so that accuracy and
    milliseconds are of the same thing; a teacher's soft labels are the mean of several
    looks, and a little better.

    Returns
    -------
    dict
        `comparison`: one entry a network, teachers first, the student last and before
        it, if given, the same student on labels alone: `name`, `role`, `model`,
        `parameters`, `macs`, `size_bytes`, `ms_per_subtomogram`, and with a validation
        part `val_accuracy`, `val_macro_f1`, `val_loss` and `calibration_error` (with
        the network's own temperature). `agreement` then too: see
        `evaluation.agreement`.
    """
    device = choose_device(config.device)
    networks = [
        (t.name, "teacher", t.judged, t.info, t.path, t.order(material.classes))
        for t in teachers
    ]
    everyone = list(range(len(material.classes)))
    if baseline is not None:
        own = run.baseline.best_path
        networks.append(
            (
                "labels alone",
                "labels alone",
                baseline.model,
                baseline.info,
                own,
                everyone,
            )
        )
    networks.append(
        (student.name, "student", student.model, student.info, run.best_path, everyone)
    )
    rows = []
    said: list[Tensor] = []
    for name, role, model, info, path, order in networks:
        row = {"name": name, "role": role, **_cost(model, info, path)}
        if len(material.split.validation):
            logits = yield from validation_logits(
                to_device(model, device),
                material,
                device,
                choose_precision(device, config.precision),
                config.batch_size,
                cancel,
            )
            said.append(logits[:, order])
            row |= _quality(said[-1], info.temperature, material)
        rows.append(row)
    yield Progress(stage="time", done=0, total=1)
    times = time_models(
        [model for _, _, model, *_ in networks], material.data.box, device, rounds=5
    )
    for row, milliseconds in zip(rows, times, strict=True):
        row["ms_per_subtomogram"] = milliseconds
    found: dict[str, Any] = {"comparison": rows}
    if said:
        ours = said[-1]
        together = torch.stack(said[: len(teachers)]).mean(dim=0)
        found["agreement"] = agreement(
            ours.argmax(dim=1).numpy(),
            together.argmax(dim=1).numpy(),
            material.targets[material.split.validation],
            material.classes,
        )
    return found


def _cost(model: nn.Module, info: CheckpointInfo, path: Path) -> dict[str, Any]:
    return {
        "model": info.model,
        "parameters": count_parameters(model),
        "macs": count_macs(info.model, len(info.classes), info.box),
        "size_bytes": checkpoint_path(path).stat().st_size,
    }


def _quality(logits: Tensor, temperature: float, material: Material) -> dict[str, Any]:
    truth = material.targets[material.split.validation]
    metrics, _ = score_logits(logits, truth, material.classes)
    error = calibration_error(softmax(logits, temperature), truth)
    return metrics | {"calibration_error": error}
