"""What a network costs: parameters, multiply-accumulates, milliseconds."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_ectkd.devices.kernels import layout_of
from napari_ectkd.devices.memory import if_it_fits
from napari_ectkd.models.inference import half_of, to_device
from napari_ectkd.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

MACS_PER_BYTE = 5.4
"""Multiply-accumulates that take as long as moving one byte of an activation. Fitted to
`benchmarks/results/models-box40.json`: the times of its seven networks, from 0.3 to 47
ms, come out within a factor of 1.5 (a CPU, float32)."""


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(name: str, n_classes: int, box_px: int) -> int:
    """Return the multiply-accumulates of one subtomogram.

    Raises
    ------
    ConfigError
        As `build_model`.
    """
    return forecast(name, n_classes, box_px).macs


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
        Subtomograms in one call; fewer, for all networks, if they do not fit.
    rounds
        Calls that count, after two that warm up.
    dtype
        For autocast; None for float32.
    """
    ready = [to_device(m.eval(), device) for m in models]
    while True:
        times = partial(_times, ready, box_px, device, batch_size, rounds, dtype)
        found = if_it_fits(device, times)
        if found is not None:
            return found
        batch_size = half_of(batch_size)


def _times(
    ready: Sequence[nn.Module],
    box_px: int,
    device: torch.device,
    batch_size: int,
    rounds: int,
    dtype: torch.dtype | None,
) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(batch_size, 1, *(box_px,) * 3, generator=generator)
    volumes = volumes.to(device, memory_format=layout_of(device))
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


@dataclass(frozen=True)
class Forecast:
    """What a network will cost, said without running it.

    Attributes
    ----------
    parameters, macs
        Trained values, and multiply-accumulates of one subtomogram.
    moved_bytes
        What its layers read and write of activations, float32, one subtomogram.
    widest_bytes
        Input and output of the layer that has most, float32, one subtomogram.
    """

    parameters: int
    macs: int
    moved_bytes: int
    widest_bytes: int

    @property
    def effort(self) -> float:
        """What its time goes with, in multiply-accumulates.

        Of two networks the ratio of these is about that of their times.
        """
        return self.macs + MACS_PER_BYTE * self.moved_bytes

    def using_bytes(self, batch_size: int) -> float:
        """Return about the memory that classifying takes, weights included."""
        return 4.0 * self.parameters + batch_size * self.widest_bytes

    def learning_bytes(self, batch_size: int) -> float:
        """Return about the memory of a training step.

        Weights, their gradients and AdamW's two moments; and all activations with their
        gradients, of which `moved_bytes` counts each as output and as next input.
        """
        return 16.0 * self.parameters + batch_size * self.moved_bytes


@lru_cache(maxsize=64)
def forecast(name: str, n_classes: int, box_px: int) -> Forecast:
    """Return what a network will cost; nothing is computed, only shapes.

    Torch's own counter of operations is not for windows: with a torch for CUDA it loads
    Triton, whose LLVM and that of Mesa's OpenGL end the process when they meet.

    Raises
    ------
    ConfigError
        As `build_model`.
    """
    moved, macs = [], []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if list(layer.children()):
            return
        moved.append(4 * (sum(x.numel() for x in inputs) + output.numel()))
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            macs.append(output.numel() * layer.weight[0].numel())

    with torch.device("meta"), torch.no_grad():
        model = build_model(name, n_classes, box_px).eval()
        hooks = [m.register_forward_hook(look) for m in model.modules()]
        model(torch.empty(1, 1, box_px, box_px, box_px))
    for hook in hooks:
        hook.remove()
    return Forecast(
        count_parameters(model),
        sum(macs),
        sum(moved),
        max(moved),
    )
