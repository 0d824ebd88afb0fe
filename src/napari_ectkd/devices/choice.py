"""The devices of this machine by name, and the one to compute on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ectkd.devices.memory import stay_in_its_memory
from napari_ectkd.errors import ConfigError, DeviceWarning

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Device:
    """A device that this machine has; `free_bytes` is None where nobody knows."""

    name: str
    title: str
    free_bytes: int | None


def list_devices() -> list[Device]:
    """Return the devices of this machine, the fastest first.

    GPUs whose driver torch cannot use are left out: `training.cuda_findings` explains
    them.
    """
    import torch

    gpus = _gpus()
    devices = [_gpu(index) for index in range(len(gpus) - ("mps" in gpus))]
    if "mps" in gpus:
        # The GPU shares the machine's memory; what Metal recommends is the limit.
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        devices.append(Device("mps", "Apple GPU", max(0, int(free))))
    import psutil

    title = device_title(torch.device("cpu"))
    devices.append(Device("cpu", title, int(psutil.virtual_memory().available)))
    return devices


def _gpu(index: int) -> Device:
    """Return a GPU; one that is full or broken says little of itself."""
    import torch

    name, title, free = f"cuda:{index}", f"GPU {index}", None
    try:
        title = torch.cuda.get_device_name(index)
        free = int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        pass  # what is wrong with it shows as soon as something is computed
    return Device(name, title, free)


def device_title(device: torch.device) -> str:
    """Return what people call a device (`NVIDIA H100`, `Apple GPU`)."""
    import platform

    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "mps":
        return "Apple GPU"
    return _processor_name() or platform.processor() or platform.machine()


def _processor_name() -> str:
    """Return the processor's name as Linux knows it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the fastest.

    Raises
    ------
    ConfigError
        If this machine has no such device, or it does not compute rightly; for `auto`
        that is a `DeviceWarning`.
    """
    import torch

    # The processor's advice is for GPUs that are broken: none is asked for.
    if name == "cpu":
        return torch.device("cpu")
    gpus = _gpus()
    if name == "auto":
        return _fastest_device(gpus)
    name = "cuda:0" if name == "cuda" else name
    if name not in gpus:
        known = ", ".join([*gpus, "cpu"])
        raise ConfigError(
            f"no device {name!r} on this machine; it has {known} (`ectkd doctor` says "
            "why a GPU may be missing)"
        )
    device = torch.device(name)
    if problem := _problem(device):
        raise ConfigError(f"{problem}, or compute on the processor (--device cpu)")
    return device


def _gpus() -> list[str]:
    """Return the GPUs by name, the fastest first, and use none of their memory."""
    import torch

    # The count alone would come from a driver that is too old, too.
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_apple_s = torch.backends.mps.is_available()
    return [*(f"cuda:{index}" for index in range(n_gpus)), *["mps"] * has_apple_s]


def _fastest_device(gpus: list[str]) -> torch.device:
    """Return the device that computes fastest, of those that compute rightly."""
    import torch

    if not gpus:
        return torch.device("cpu")
    device = torch.device(gpus[0])
    if problem := _problem(device):
        text = f"{problem}; the processor computes instead"
        warnings.warn(text, DeviceWarning, stacklevel=3)
        return torch.device("cpu")
    return device


def _problem(device: torch.device) -> str:
    """Return why a GPU is not to be computed on; nothing if it proved to be right."""
    from napari_ectkd.devices.kernels import kernel_problem

    if problem := kernel_problem(device):
        return f"{device} is of no use: {problem}. See `ectkd doctor`"
    if device.type == "cuda":
        stay_in_its_memory(device)
    return ""
