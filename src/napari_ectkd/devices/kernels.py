"""The kernels of a device: the layout they work in, and whether they are right.

A device that is listed is not yet one that computes rightly: a driver may be too old, a
torch without kernels for the GPU, and on Apple's GPUs 3D convolutions have come out
wrong without a word, in one layout (pytorch/pytorch#141471) or the other (#197114).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from napari_ectkd.devices.cuda import ask_cuda, explain_error

TOLERANCE = 0.1
"""Of a gradient, relative. GPUs multiply in TF32, with 10 bits; where a kernel is
wrong, nothing of a gradient is right."""


@dataclass(frozen=True)
class Trial:
    """How a device did.

    Attributes
    ----------
    difference
        Largest difference of a gradient from the processor's in double precision,
        relative to the largest of its layer.
    seconds
        Of a run after the first.
    """

    difference: float
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether it computes what the processor does."""
        return self.difference < TOLERANCE  # NaN is not


def layout_of(device: torch.device) -> torch.memory_format:
    """Return the layout of 5D tensors that a device's 3D convolutions like best.

    Apple's GPUs copy everything to the plain one, and torch ended the whole process
    there on a batch normalization in the other (pytorch/pytorch#190645).
    """
    is_apple_s = device.type == "mps"
    return torch.contiguous_format if is_apple_s else torch.channels_last_3d


def try_kernels(device: torch.device) -> Trial:
    """Run a small network like ours forward and backward on a device."""
    expected = _gradients(torch.device("cpu"), torch.float64)
    found = _gradients(device, torch.float32)
    start = time.perf_counter()
    _gradients(device, torch.float32)
    seconds = time.perf_counter() - start
    differences = [
        float((one - other).abs().max() / other.abs().max())
        for one, other in zip(found, expected, strict=True)
    ]
    # Of a NaN `max` would say anything.
    is_whole = all(difference == difference for difference in differences)
    return Trial(max(differences) if is_whole else float("nan"), seconds)


@cache
def kernel_problem(device: torch.device) -> str:
    """Return why the small network fails or is wrong on a device, or nothing."""
    try:
        trial = try_kernels(device)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        return explain_error(error, str(device), ask_cuda())
    if trial.is_right:
        return ""
    wrong = f"a small network is wrong by {trial.difference:.0%}"
    return f"{wrong}, for which the system, the driver or torch is at fault"


def _gradients(device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return the gradients of a small network, the same one each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.Conv3d(8, 32, 3, stride=2, bias=False),
            nn.BatchNorm3d(32),
            nn.ReLU(),
            nn.MaxPool3d(2, stride=1),
            nn.Conv3d(32, 32, 3, dilation=2, bias=False),
            nn.ReLU(),
            nn.Conv3d(32, 32, 1),
            nn.Flatten(2),
        )
        volumes = torch.randn(4, 1, 16, 16, 16)
        weights = torch.randn(4, 32)
    layout = layout_of(device)
    network = network.to(device, dtype, memory_format=layout)  # type: ignore[call-overload]
    features = network(volumes.to(device, dtype, memory_format=layout))
    loss = (features.square().mean(dim=2) * weights.to(device, dtype)).sum()
    loss.backward()
    return [
        parameter.grad.detach().cpu().double()
        for parameter in network.parameters()
        if parameter.grad is not None
    ]
