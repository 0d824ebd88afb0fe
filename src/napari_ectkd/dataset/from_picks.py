"""Subtomograms cut out around the picks of a STAR file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.crop import crop_subtomograms, is_inside
from napari_ectkd.dataset.normalize import tomogram_statistics
from napari_ectkd.dataset.subtomograms import LabeledSubtomograms, join_subtomograms
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Noted, Progress
from napari_ectkd.io.star import read_picks
from napari_ectkd.io.tomogram_list import open_tomograms

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram import Tomogram


def load_picks(
    path: Path,
    config: DataConfig,
    cancel: Cancel,
    *,
    is_labeled: bool = True,
    voxel_size: float | None = None,
) -> Generator[Event, None, LabeledSubtomograms]:
    """Crop the picks of a STAR file: those with a label, or those without.

    Parameters
    ----------
    path
        The file.
    config
        Where its tomograms are, and what they don't say.
    cancel
        Looked at now and then.
    is_labeled
        Which of the picks count.
    voxel_size
        Å, that all are resampled to; by default that of the first tomogram.

    Raises
    ------
    EctkdError
        If there are none, or file, tomograms and settings do not fit together.
    """
    if config.box is None:
        raise ConfigError("state the box in voxels for subtomograms of picks (--box)")
    if not config.tomograms:
        raise ConfigError("say where the tomograms of the picks are (--tomograms)")
    picks = read_picks(
        path, voxel_size=config.voxel_size, label_column=config.label_column
    )
    picks = picks[picks.is_labeled == is_labeled]
    kind = "labeled" if is_labeled else "unlabeled"
    if not len(picks):
        advice = (
            "label some, or name the column with the labels (--label-column)"
            if is_labeled
            else "each has a label already"
        )
        raise DataError(f"{path.name}: no {kind} picks; {advice}")
    tomograms = open_tomograms(
        config.tomograms,
        set(picks.tomogram),
        voxel_size=config.voxel_size,
        is_inverted=config.invert,
        tilt_range=config.tilt_range,
    )
    if voxel_size is None:
        voxel_size = next(iter(tomograms.values())).voxel_size
    parts = []
    done = 0
    for name, tomogram in tomograms.items():
        here = picks.in_tomogram(name)
        inside = is_inside(tomogram, here.positions, config.box, voxel_size)
        if not inside.all():
            yield Noted(
                text=f"{name}: {(~inside).sum()} of {len(here)} {kind} picks are "
                f"nearer to the edge than half a box of {config.box} voxels and are "
                "left out",
                is_warning=True,
            )
        if tomogram.contrast_is_guessed:
            yield Noted(text=contrast_guess(tomogram))
        here = here[inside]
        crops = np.empty((len(here), *(config.box,) * 3), dtype=np.float32)
        for start in range(0, len(here), 64):
            cancel.check()
            batch = here.positions[start : start + 64]
            crops[start : start + 64] = crop_subtomograms(
                tomogram, batch, config.box, voxel_size
            )
            done += len(batch)
            yield Progress(stage="crop", done=done, total=len(picks))
        statistics = tomogram_statistics(tomogram, voxel_size)
        parts.append(
            LabeledSubtomograms(
                volumes=list(crops),
                label=here.label,
                scale=np.tile([statistics.mean, statistics.std], (len(here), 1)),
                mode="subtomogram" if config.normalize == "subtomogram" else "data",
                box=config.box,
                voxel_size=voxel_size,
                tilt_range=tomogram.tilt_range,
                is_inverted=tomogram.is_inverted,
                tomogram=here.tomogram,
                positions=here.positions,
            )
        )
    joined = join_subtomograms(parts)
    if not len(joined):
        raise DataError(
            f"{path.name}: all {kind} picks are nearer to the edge than half a box of "
            f"{config.box} voxels; take a smaller box, or label others"
        )
    return joined


def contrast_guess(tomogram: Tomogram) -> str:
    """Return the sentence that says how a tomogram's contrast sign was guessed."""
    seen, other = (
        ("dark", "--no-invert") if tomogram.is_inverted else ("bright", "--invert")
    )
    return (
        f"{tomogram.name}: protein looks {seen} (a guess; if it is not: {other}, or "
        "the tick in step 1 of the window)"
    )
