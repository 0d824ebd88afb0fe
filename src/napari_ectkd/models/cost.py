"""What a network costs: parameters, multiply-accumulates, milliseconds."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_ectkd.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(name: str, n_classes: int, box_px: int) -> int:
    """Return the multiply-accumulates of one subtomogram, counted as the network runs.

    Raises
    ------
    ConfigError
        As `build_model`.
    """
    with torch.device("meta"):
        model = build_model(name, n_classes, box_px).eval()
        volume = torch.empty(1, 1, box_px, box_px, box_px)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(volume)
    return int(counter.get_total_flops() // 2)


def time_models(
    models: Sequence[nn.Module],
    box_px: int,
    device: torch.device,
    *,
    batch_size: int = 16,
    rounds: int = 7,
    dtype: torch.dtype | None = None,
) -> list[float]:
    """Return milliseconds per subtomogram: the median of interleaved rounds.

    The networks take turns, so that a drift of the machine's speed meets all of them.

    Parameters
    ----------
    models
        Networks; put into eval mode, on the device, in the layout for 3D convolutions.
    box_px
        Voxels along each axis.
    device
        Where to run.
    batch_size
        Subtomograms in one call.
    rounds
        Calls that count, after two that warm up.
    dtype
        For autocast; None for float32.
    """
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(batch_size, 1, *(box_px,) * 3, generator=generator)
    volumes = volumes.to(device, memory_format=torch.channels_last_3d)
    ready = [
        m.eval().to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        for m in models
    ]
    seconds: list[list[float]] = [[] for _ in ready]
    for turn in range(rounds + 2):
        for model, times in zip(ready, seconds, strict=True):
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
            ):
                taken = _timed(partial(model, volumes), device)
            if turn >= 2:
                times.append(taken)
    return [1000 * statistics.median(times) / batch_size for times in seconds]


def _timed(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, repeated until they can be measured."""
    repeats = 0
    start = time.perf_counter()
    while True:
        call()
        repeats += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        elapsed = time.perf_counter() - start
        if elapsed > 0.02:
            return elapsed / repeats
