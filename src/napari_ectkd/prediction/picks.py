"""Picks of a tomogram, classified by a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_ectkd.dataset.crop import crop_subtomograms, is_inside
from napari_ectkd.dataset.normalize import normalize_each, tomogram_statistics
from napari_ectkd.devices.choice import choose_device
from napari_ectkd.errors import DataError
from napari_ectkd.evaluation.calibration import softmax
from napari_ectkd.events import Noted
from napari_ectkd.io.picks import UNKNOWN
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.prediction.fit_for import disagreements
from napari_ectkd.prediction.judge import judge

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_ectkd.dataset.normalize import Statistics
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.prediction.config import ClassifyConfig


def classify_picks(
    model_path: Path,
    tomogram: Tomogram,
    picks: Picks,
    config: ClassifyConfig,
    *,
    cancel: Cancel,
) -> Generator[Event, None, Picks]:
    """Yield what happens while a model classifies picks; return them with predictions.

    Subtomograms are read from the memory map batch by batch. Labels stay. Picks nearer
    to the edge than half a box are said and get no prediction.

    Parameters
    ----------
    model_path
        Run folder or checkpoint file.
    tomogram
        Where the picks are; picks of other tomograms are an error.
    picks
        What to classify.
    config
        Batch, device, threshold.
    cancel
        Looked at once per batch.

    Raises
    ------
    EctkdError
        If the model cannot be loaded, or the picks don't belong to the tomogram.
    """
    model, info = load_checkpoint(model_path)
    device = choose_device(config.device)
    strange = sorted(set(picks.tomogram) - {tomogram.name, ""})
    if strange:
        raise DataError(
            f"picks of tomogram {strange[0]!r} cannot be classified in "
            f"{tomogram.name!r}"
        )
    yield from disagreements(info, tomogram)
    inside = is_inside(tomogram, picks.positions, info.box, info.voxel_size)
    if not inside.all():
        yield Noted(
            text=f"{(~inside).sum()} of {len(picks)} picks of {tomogram.name} are "
            f"nearer to the edge than half a box of {info.box} voxels and get no "
            "prediction",
            is_warning=True,
        )
    statistics = tomogram_statistics(tomogram, info.voxel_size)

    def read(index: NDArray[np.int64]) -> NDArray[np.float32]:
        return normalized_crops(tomogram, picks.positions[index], info, statistics)

    logits = yield from judge(
        model,
        info,
        read,
        np.flatnonzero(inside),
        config,
        device=device,
        cancel=cancel,
        stage="classify",
        is_averaged=config.average_rotations,
    )
    probabilities = np.full((len(picks), len(info.classes)), np.nan)
    if inside.any():
        probabilities[inside] = softmax(logits, info.temperature)
    classified = picks.with_predictions(
        pd.DataFrame(probabilities, columns=info.classes)
    )
    threshold = config.min_confidence
    if threshold is None:
        threshold = info.min_confidence
    unsure = classified.confidence < threshold
    classified.prediction[unsure] = UNKNOWN
    return classified


def normalized_crops(
    tomogram: Tomogram,
    positions: NDArray[np.float64],
    info: CheckpointInfo,
    statistics: Statistics,
) -> NDArray[np.float32]:
    """Return `(n, box, box, box)` subtomograms as a model wants them.

    Parameters
    ----------
    tomogram
        Where they are cropped.
    positions
        `(n, 3)` Å, of their centers; whole boxes lie in the tomogram.
    info
        Box, voxel size and normalization of the model.
    statistics
        Of the tomogram.
    """
    crops = crop_subtomograms(tomogram, positions, info.box, info.voxel_size)
    if info.normalization.mode == "subtomogram":
        return normalize_each(crops)
    crops -= np.float32(statistics.mean)
    crops /= np.float32(statistics.std)
    return crops
