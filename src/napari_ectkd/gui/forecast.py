"""What is known of a teacher, and of a student before it is trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.result_table import si
from napari_ectkd.runs import Run, members_of

if TYPE_CHECKING:
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.training.run_list import FoundRun


def about_teacher(teacher: FoundRun) -> str:
    """Return what a teacher was trained on, and how good it is, as rich text."""
    info = teacher.info
    card = _card(teacher)
    ensemble = (card or {}).get("ensemble", {})
    name = f"{ensemble['members']} × {info.model}" if ensemble else info.model
    lines = [f"<b>{teacher.path.name}</b>: {name}"]
    if card:
        labels = card["data"]["labels"]
        n = sum(of["training"] for of in labels.values())
        unlabeled = card["data"].get("unlabeled")
        again = ", then once more from all" if card["training"].get("is_refit") else ""
        more = f" and {unlabeled:,} unlabeled picks" if unlabeled else ""
        lines.append(f"learned from {n} labels of {len(labels)} classes{more}{again}")
    else:
        lines.append(f"{len(info.classes)} classes")
    lines.append(f"box {info.box} at {info.voxel_size:g} Å")
    metrics = (card or {}).get("metrics") or info.metrics
    if "val_accuracy" in ensemble:
        lines.append(
            f"{ensemble['val_accuracy']:.1%} right together on the validation part"
        )
    elif "val_accuracy" in metrics:
        lines.append(f"{metrics['val_accuracy']:.1%} right on its validation part")
    else:
        lines.append("never validated: nobody knows how good it is")
    if info.calibration and not ensemble:
        lines.append(
            f"its confidence is off by {info.calibration.error_after:.1%} on average"
        )
    return ", ".join(lines) + "."


def about_student(name: str, teachers: list[FoundRun], batch_size: int) -> str:
    """Return what a student will cost beside its teachers, as rich text.

    Parameters
    ----------
    name
        The student's network.
    teachers
        With models; the student takes their box and classes.
    batch_size
        Of training.
    """
    from napari_ectkd.models.cost import forecast

    info: CheckpointInfo = teachers[0].info
    try:
        student = forecast(name, len(info.classes), info.box)
        asked = [
            forecast(teacher.info.model, len(info.classes), info.box)
            for teacher in teachers
            for _member in members_of(teacher.path)
        ]
    except EctkdError as error:
        return str(error)
    who = "teachers together" if len(asked) > 1 else "teacher"
    faster = sum(cost.effort for cost in asked) / student.effort
    fewer = sum(cost.parameters for cost in asked) / student.parameters
    speed = f"about {_rounded(faster)} times as fast as the {who} (measured later)"
    if faster < 1.2:
        speed = f"no faster than the {who}: choose a smaller one"
    memory = student.learning_bytes(batch_size)
    return (
        f"<b>{si(student.parameters)}</b> parameters, "
        f"{_rounded(fewer)} times fewer; {speed}. "
        f"Training takes about {si(memory)}B of memory, using it "
        f"{si(student.using_bytes(64))}B."
    )


def _rounded(ratio: float) -> str:
    """Return a ratio with the two digits that a forecast deserves."""
    return f"{float(f'{ratio:.2g}'):g}"


def _card(teacher: FoundRun) -> dict[str, Any] | None:
    path = Run(teacher.path).card_path.with_suffix(".json")
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return card if "labels" in card.get("data", {}) else None
