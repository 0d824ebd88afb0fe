"""What a model is and what it cannot do, in sentences for a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.errors import EctkdError
from napari_ectkd.io.picks import NONE
from napari_ectkd.models.checkpoint import CheckpointInfo, read_info
from napari_ectkd.models.registry import find_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ectkd.io.tomogram import Tomogram


def about_model(path: Path | None, tomogram: Tomogram | None) -> str:
    """Return what a model is, and in what a tomogram differs from those it knows."""
    if path is None:
        return ""
    try:
        info = read_info(path)
    except EctkdError as error:
        return str(error)
    lines = [_describe(info), *_mismatches(info, tomogram)]
    if NONE not in info.classes:
        lines.append("⚠ It learned no example of none: all is a particle to it.")
    return "\n".join(lines)


def model_problem(path: Path, *, is_sweep: bool) -> str:
    """Return why a model cannot be used, or not be swept, or nothing."""
    try:
        info = read_info(path)
    except EctkdError as error:
        return str(error)
    return _sweep_problem(info) if is_sweep else ""


def _sweep_problem(info: CheckpointInfo) -> str:
    if not find_model(info.model).is_sweepable:
        return (
            f"{info.model} cannot be swept: it sees where its box ends; distill it "
            "into compact in step 3"
        )
    if info.normalization.mode == "subtomogram":
        return (
            "This model wants each subtomogram normalized by itself, which no "
            "sweep can do; train it with normalize set to data"
        )
    return ""


def _describe(info: CheckpointInfo) -> str:
    """Return what a model is, in a sentence."""
    classes = ", ".join(info.classes)
    text = f"{info.model} for {classes}; box {info.box} at {info.voxel_size:g} Å."
    if info.calibration is None:
        return f"{text} Its confidence was never calibrated."
    if not info.min_confidence:
        share = info.calibration.precision
        return f"{text} Calibrated: about {share:.0%} of its predictions are right."
    return (
        f"{text} Calibrated: predictions below {info.min_confidence:.2f} are shown as "
        f"unknown, {info.calibration.precision:.0%} of the others should be right."
    )


def _mismatches(info: CheckpointInfo, tomogram: Tomogram | None) -> list[str]:
    """Return in what a tomogram differs from those that a model was trained on."""
    if tomogram is None:
        return []
    found = []
    size = tomogram.voxel_size
    if abs(size - info.voxel_size) > 0.01 * info.voxel_size:
        found.append(f"⚠ The tomogram has {size:g} Å voxels and will be resampled.")
    ranges = (info.tilt_range, tomogram.tilt_range)
    if None not in ranges and ranges[0] != ranges[1]:
        low, high = info.tilt_range
        found.append(f"⚠ The model knows tilts from {low:g}° to {high:g}°.")
    return found
