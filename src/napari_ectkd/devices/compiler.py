"""Whether `torch.compile` can work on a device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def compiler_problem(device: torch.device, n_workers: int = 1) -> str:
    """Return why `torch.compile` cannot work on devices of a kind, or nothing."""
    if device.type == "cuda" and n_workers > 1:
        # Batch normalization over several of them: pytorch/pytorch#107372, #156680.
        return "networks that are trained on several GPUs cannot be compiled"
    if device.type == "cuda":
        return _triton_problem(device)
    if device.type == "cpu":
        has_one = _has_program(os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl")
        return "" if has_one else "there is no C++ compiler on this machine"
    return f"there is no compiler for {device.type}"


def _triton_problem(device: torch.device) -> str:
    """Return why networks cannot be compiled for an NVIDIA GPU, or nothing."""
    from importlib.util import find_spec

    import torch

    if not find_spec("triton"):
        return "Triton is not installed"
    if torch.cuda.get_device_capability(device) < (7, 0):
        return "the GPU is too old for Triton"
    if not _has_program(os.environ.get("CC", ""), "gcc", "clang", "cl"):
        return "there is no C compiler on this machine, which Triton needs"
    return ""


def _has_program(*names: str) -> bool:
    import shutil

    return any(shutil.which(name) for name in names if name)
