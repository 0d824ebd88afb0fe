"""Logits of many subtomograms, in batches, averaged over views if asked."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_ectkd.dataset.augment import IDENTITY, rotate
from napari_ectkd.devices.kernels import layout_of
from napari_ectkd.devices.memory import if_it_fits
from napari_ectkd.errors import DataError
from napari_ectkd.events import Noted, Progress

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
    return volumes.to(device, memory_format=layout_of(device))


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a model on a device, in the layout that 3D convolutions like best."""
    return model.to(device, memory_format=layout_of(device))  # type: ignore[call-overload, no-any-return]


def half_of(n: int) -> int:
    """Return how many subtomograms to compute at once where `n` were too many.

    Raises
    ------
    DataError
        If one was.
    """
    if n == 1:
        raise DataError(
            "out of memory with a single subtomogram at once: take a smaller box, "
            "a smaller network, or another device"
        )
    return -(-n // 2)


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

    Raises
    ------
    DataError
        If not even one subtomogram fits the device's memory; where a batch does not,
        half as many are computed at once from then on.
    """
    model.eval()
    logits = torch.zeros(0, 0)
    start = last = time.monotonic()
    done = 0
    while done < len(index):
        cancel.check()
        batch = read(index[done : done + batch_size])
        total = if_it_fits(device, partial(_total, model, batch, views, device, dtype))
        if total is None:
            batch_size = half_of(len(batch))
            yield Noted(
                text=f"out of memory with {len(batch)} subtomograms at once: the rest "
                f"are classified {batch_size} at once",
                is_warning=True,
            )
            continue
        if not done:
            # In one piece: small tensors kept between the large ones of each batch
            # would scatter the allocator's memory, by gigabytes in a million.
            logits = torch.zeros(len(index), total.shape[1])
        logits[done : done + len(total)] = (total / len(views)).cpu()
        now = time.monotonic()
        done += len(total)
        if now - last > 0.2 or done == len(index):
            last = now
            left = (now - start) / done * (len(index) - done)
            yield Progress(stage=stage, done=done, total=len(index), seconds_left=left)
    return logits


def _total(
    model: nn.Module,
    batch: NDArray[np.float32],
    views: Sequence[Signs],
    device: torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    """Return the logits `(b, k)` of a batch, summed over views."""
    # Not inference_mode: logits become targets of a student's loss.
    with (
        torch.no_grad(),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
    ):
        volumes = to_volumes(batch, device)
        total: Tensor = model(rotate(volumes, views[0])).float()
        for view in views[1:]:
            total = total + model(rotate(volumes, view)).float()
        return total
