"""Logits of many subtomograms, in batches, averaged over views if asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from napari_ectkd.dataset.augment import IDENTITY, rotate
from napari_ectkd.events import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_ectkd.dataset.augment import Signs
    from napari_ectkd.events import Cancel, Event


def to_volumes(batch: NDArray[np.float32], device: torch.device) -> Tensor:
    """Return `(b, n, n, n)` subtomograms as `(b, 1, n, n, n)` on a device."""
    volumes = torch.from_numpy(batch)[:, None]
    return volumes.to(device, memory_format=torch.channels_last_3d)


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a model on a device, in the layout that 3D convolutions like best."""
    return model.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def infer_logits(
    model: nn.Module,
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    index: NDArray[np.int64],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    batch_size: int,
    cancel: Cancel,
    views: Sequence[Signs] = (IDENTITY,),
    stage: str = "classify",
) -> Generator[Event, None, Tensor]:
    """Yield progress over `index`; return logits `(len(index), k)`, float32, on CPU.

    Parameters
    ----------
    model
        On `device`; put into eval mode.
    read
        From indices to normalized subtomograms `(b, n, n, n)`.
    index
        Which subtomograms.
    device, dtype
        Where, and in which type autocast computes (None: float32).
    batch_size
        Subtomograms read and computed at once.
    cancel
        Looked at once per batch.
    views
        Rotations over which the logits are averaged.
    stage
        Name of the work in the events.
    """
    model.eval()
    logits = torch.zeros(0, 0)
    start = last = time.monotonic()
    for first in range(0, len(index), batch_size):
        cancel.check()
        volumes = to_volumes(read(index[first : first + batch_size]), device)
        # Not inference_mode: logits become targets of a student's loss.
        with (
            torch.no_grad(),
            torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
        ):
            total = sum(model(rotate(volumes, view)).float() for view in views)
        if not first:
            # In one piece: small tensors kept between the large ones of each batch
            # would scatter the allocator's memory, by gigabytes in a million.
            logits = torch.zeros(len(index), total.shape[1])
        logits[first : first + len(total)] = (total / len(views)).cpu()
        now = time.monotonic()
        done = min(first + batch_size, len(index))
        if now - last > 0.2 or done == len(index):
            last = now
            left = (now - start) / done * (len(index) - done)
            yield Progress(stage=stage, done=done, total=len(index), seconds_left=left)
    return logits
