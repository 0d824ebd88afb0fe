"""A model tested on a labeled data set that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.dataset.crop import is_same_voxel_size
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.devices.choice import choose_device
from napari_ectkd.errors import DataError
from napari_ectkd.events import Noted
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.prediction.judge import judge
from napari_ectkd.training.loop import score_logits

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.evaluation.metrics import Report
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.prediction.config import ClassifyConfig


def score_model(
    model_path: Path,
    data_config: DataConfig,
    config: ClassifyConfig,
    *,
    cancel: Cancel,
) -> Generator[Event, None, Report]:
    """Yield progress; return the report of a model on labeled subtomograms.

    The data is normalized as the model's training data was.

    Raises
    ------
    EctkdError
        If model or data are broken, or differ in classes, box or voxel size.
    """
    model, info = load_checkpoint(model_path)
    mode = info.normalization.mode
    if data_config.normalize == "auto":
        data_config = data_config.model_copy(update={"normalize": mode})
    data = yield from load_dataset(data_config, cancel=cancel)
    targets = data.targets(info.classes)
    if data.box != info.box or not is_same_voxel_size(data.voxel_size, info.voxel_size):
        raise DataError(
            f"the model takes {info.box} voxels of {info.voxel_size:g} Å, the data has "
            f"{data.box} of {data.voxel_size:g} Å"
        )
    if data.mode != mode:
        yield Noted(
            text=f"the model was trained on data normalized by {mode}, this is by "
            f"{data.mode}",
            is_warning=True,
        )
    logits = yield from judge(
        model,
        info,
        data.read,
        np.arange(len(data)),
        config,
        device=choose_device(config.device),
        cancel=cancel,
        stage="test",
        is_averaged=config.average_rotations,
    )
    _, report = score_logits(logits, targets, info.classes)
    return report
