"""A student beside its teachers, each as it would be used, and where they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.evaluation.agreement import agreement
from napari_ectkd.evaluation.calibration import calibrate, softmax
from napari_ectkd.evaluation.metrics import calibration_error
from napari_ectkd.events import Progress
from napari_ectkd.models.checkpoint import checkpoint_path
from napari_ectkd.models.cost import count_macs, count_parameters, time_models
from napari_ectkd.models.inference import to_device
from napari_ectkd.training.loop import score_logits, validation_logits
from napari_ectkd.training.workers import choose_worker_device

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from napari_ectkd.distillation.soft_labels import Teacher
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import Calibration, CheckpointInfo
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
        part `val_accuracy`, `val_macro_f1`, `val_loss`, `calibration_error` (with the
        network's own temperature), and with its own threshold `min_confidence` the
        share of predictions that are `kept`, and `precision`, how many of those are
        right. After several teachers comes what they are together, the role of
        which is `teachers`: their mean logits, calibrated likewise, for the sum of
        their costs. `agreement` then too: see `evaluation.agreement`.
    """
    device = choose_worker_device(config.device)
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
                2 * config.batch_size,
                cancel,
            )
            said.append(logits[:, order])
            row |= _quality(said[-1], info.calibration, material)
        rows.append(row)
    yield Progress(stage="time", done=0, total=1)
    times = time_models(
        [model for _, _, model, *_ in networks], material.data.box, device, rounds=5
    )
    for row, milliseconds in zip(rows, times, strict=True):
        row["ms_per_subtomogram"] = milliseconds
    n = len(teachers)
    together = torch.stack(said[:n]).mean(dim=0) if said else None
    if n > 1:
        rows.insert(n, _together(rows[:n], together, material))
    found: dict[str, Any] = {"comparison": rows}
    if together is not None:
        ours = said[-1]
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


def _together(
    rows: Sequence[dict[str, Any]], logits: Tensor | None, material: Material
) -> dict[str, Any]:
    """Return what several teachers are as one, of whom each has to be asked."""
    sums = ("parameters", "macs", "size_bytes", "ms_per_subtomogram")
    models = {row["model"] for row in rows}
    found = {
        "name": f"{len(rows)} together",
        "role": "teachers",
        "model": " and ".join(sorted(models)),
        **{key: sum(row[key] for row in rows) for key in sums},
    }
    if logits is not None:
        truth = material.targets[material.split.validation]
        found |= _quality(logits, calibrate(logits, truth), material)
    return found


def _quality(
    logits: Tensor, calibration: Calibration | None, material: Material
) -> dict[str, Any]:
    truth = material.targets[material.split.validation]
    metrics, _ = score_logits(logits, truth, material.classes)
    temperature = calibration.temperature if calibration else 1.0
    threshold = calibration.min_confidence if calibration else 0.0
    probabilities = softmax(logits, temperature)
    kept = probabilities.max(axis=1) >= threshold
    right = probabilities.argmax(axis=1) == truth
    return metrics | {
        "calibration_error": calibration_error(probabilities, truth),
        "min_confidence": threshold,
        "kept": float(kept.mean()),
        "precision": float(right[kept].mean()) if kept.any() else None,
    }
