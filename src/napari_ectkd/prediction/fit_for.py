"""What a model and a tomogram disagree about, said before the model is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.dataset.crop import is_same_voxel_size
from napari_ectkd.dataset.from_picks import contrast_guess
from napari_ectkd.events import Noted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.models.checkpoint import CheckpointInfo


def disagreements(
    info: CheckpointInfo,
    tomogram: Tomogram,
    *,
    resampled: str = "subtomograms are resampled",
) -> Iterator[Noted]:
    """Yield what the user should know before a model is used on a tomogram.

    Parameters
    ----------
    info
        What the model was trained on.
    tomogram
        Where it is to be used.
    resampled
        What is done where the voxel sizes differ.
    """
    name = tomogram.name
    if not is_same_voxel_size(info.voxel_size, tomogram.voxel_size):
        ratio = tomogram.voxel_size / info.voxel_size
        text = (
            f"{name} has voxels of {tomogram.voxel_size:g} Å, the model was trained at "
            f"{info.voxel_size:g} Å: {resampled}"
        )
        if ratio > 1.2:
            text += "; detail that the model was trained on is missing"
        yield Noted(text=text, is_warning=ratio > 1.2)
    if tomogram.contrast_is_guessed:
        yield Noted(text=contrast_guess(tomogram), is_warning=True)
    ours, theirs = tomogram.tilt_range, info.tilt_range
    if (
        ours
        and theirs
        and max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) > 5
    ):
        yield Noted(
            text=f"{name} was tilted from {ours[0]:g}° to {ours[1]:g}°, the model was "
            f"trained on {theirs[0]:g}° to {theirs[1]:g}°: another missing wedge, so "
            "expect less",
            is_warning=True,
        )
    if info.normalization.mode == "subtomogram":
        yield Noted(
            text="the model was trained on subtomograms normalized one by one; these "
            "are too"
        )
