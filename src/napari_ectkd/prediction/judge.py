"""A model's logits of subtomograms, as its user asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.dataset.augment import IDENTITY, wedge_rotations
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.models.folding import folded
from napari_ectkd.models.inference import infer_logits, to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.models.checkpoint import CheckpointInfo
    from napari_ectkd.prediction.config import ClassifyConfig, SweepConfig


def judge(
    model: nn.Module,
    info: CheckpointInfo,
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    index: NDArray[np.int64],
    config: ClassifyConfig | SweepConfig,
    *,
    device: torch.device,
    cancel: Cancel,
    stage: str,
    is_averaged: bool = False,
) -> Generator[Event, None, Tensor]:
    """Yield progress over `index`; return logits `(len(index), k)`, float32, on CPU.

    Parameters
    ----------
    model
        Not changed: a copy with folded batch normalization is used.
    info
        The tilt range that it was trained on says which rotations keep the wedge.
    read
        From indices to normalized subtomograms `(b, n, n, n)`.
    index
        Which subtomograms.
    config
        Precision and batch.
    device
        Where.
    cancel
        Looked at once per batch.
    stage
        Name of the work in the events.
    is_averaged
        Whether over the rotations that keep the missing wedge.
    """
    rotations = wedge_rotations(info.tilt_range)
    return infer_logits(
        to_device(folded(model), device),
        read,
        index,
        device=device,
        dtype=choose_precision(device, config.precision),
        batch_size=config.batch_size,
        cancel=cancel,
        views=rotations if is_averaged else (IDENTITY,),
        stage=stage,
    )
