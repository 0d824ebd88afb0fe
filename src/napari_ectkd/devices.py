"""The devices of this machine, by name, and the precision that pays on each."""

from __future__ import annotations

import os
import re
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from napari_ectkd.cuda import is_slow_in_3d
from napari_ectkd.errors import ConfigError, DeviceWarning

if TYPE_CHECKING:
    import torch

_WITHOUT_TENSOR_CORES = re.compile(
    r"GTX 16[356]0|MX450|\bT(400|500|550|600|1000|1200|2000)\b"
)
"""Of GPUs of compute capability 7.5, whose float16 is slow and known to turn to NaN."""
Precision = Literal["auto", "float32", "bfloat16", "float16"]

ALLOCATOR = (
    "glibc.malloc.mmap_max=0:glibc.malloc.mmap_threshold=4294967295:"
    "glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
)
"""Settings of glibc's allocator that keep large activations from being mapped and
unmapped by the kernel in each step, two thirds of the time of a training step on a CPU.
They count from a process's start."""


_NO_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory"),
    *("ALLOC_FAILED", "Invalid buffer size", "unable to find an engine to execute"),
)
"""What torch, CUDA's libraries and Metal say of it, each in another kind of error.
Where memory is short cuDNN finds no way to compute."""


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
    return _checked(torch.device(name))


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
    try:
        return _checked(torch.device(gpus[0]))
    except ConfigError as error:
        warnings.warn(str(error), DeviceWarning, stacklevel=4)
        return torch.device("cpu")


def _checked(device: torch.device) -> torch.device:
    """Return a GPU that has proved to compute rightly."""
    from napari_ectkd.kernels import check_kernels

    check_kernels(device)
    if device.type == "cuda":
        _stay_in_its_memory(device)
    return device


@cache
def _stay_in_its_memory(device: torch.device) -> None:
    """Run out of memory where a GPU's is full, as we can deal with.

    On Windows, and Linux within it, NVIDIA's driver takes the machine's memory instead,
    and computing slows down many times without a word.
    """
    import platform

    import torch

    if sys.platform == "win32" or "microsoft" in platform.release().lower():
        free, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(free / total, device)


def choose_precision(device: torch.device, precision: Precision) -> torch.dtype | None:
    """Return the type for autocast, or None to compute in float32.

    `auto` takes bfloat16 where the hardware multiplies it: there it is faster, and
    needs no scaling of the loss. GPUs with tensor cores that are too old for it
    (compute capability 7) take float16. Where half precision is known to be slow or
    wrong, that is float32.
    """
    import torch

    if precision == "float32":
        return None
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "float16":
        return torch.float16
    if device.type == "cuda":
        if _is_slow_in_half(device):
            return None
        # Asked otherwise, torch says yes where it only emulates bfloat16.
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return torch.bfloat16
        major, _ = torch.cuda.get_device_capability(device)
        return torch.float16 if major >= 7 else None
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        if found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"):
            return torch.bfloat16
    return None


def _is_slow_in_half(device: torch.device) -> bool:
    """Return whether half precision is no good on a GPU."""
    import torch

    version = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    if torch.version.hip is None and is_slow_in_3d(version):
        warnings.warn(
            "this cuDNN is slow in half precision, so that float32 is taken: update "
            "torch to be faster",
            DeviceWarning,
            stacklevel=4,
        )
        return True
    return bool(_WITHOUT_TENSOR_CORES.search(torch.cuda.get_device_name(device)))


def used_memory(device: torch.device) -> int:
    """Return the most bytes that this process has had on a device at once.

    On the processor, what it has now.
    """
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    import psutil

    return int(psutil.Process().memory_info().rss)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of any device, is short."""
    # By its name, since the error may be that torch does not load.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(t in str(error) for t in _NO_MEMORY)


def free_memory(device: torch.device) -> None:
    """Give back what is kept on a device for later, after it has run out."""
    import gc

    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


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


def thread_environment() -> dict[str, str]:
    """Return the environment variables that give a process as many threads as are idle.

    Threads wait for each other after each layer. One that shares its core with another
    program holds up all the others: with a busy core beside it, training with two
    threads took ten times as long as with one. Whoever sets `OMP_NUM_THREADS` decides.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    import psutil

    n_logical = psutil.cpu_count() or 1
    share = (psutil.cpu_count(logical=False) or n_logical) / n_logical
    # A cluster may have lent us some cores only; what the others do is no concern.
    can_choose = hasattr(os, "sched_getaffinity")
    ours = os.sched_getaffinity(0) if can_choose else range(n_logical)
    busy = psutil.cpu_percent(
        interval=0.3, percpu=True
    )  # this process sleeps meanwhile
    idle = sum(1 - busy[core] / 100 for core in ours if core < len(busy))
    return {"OMP_NUM_THREADS": str(max(1, round(idle * share)))}


def mps_environment() -> dict[str, str]:
    """Return the environment variables that let a Mac's processor help its GPU out.

    They count from torch's import: operators that the GPU lacks run on the processor,
    and torch says which.
    """
    if sys.platform != "darwin" or "PYTORCH_ENABLE_MPS_FALLBACK" in os.environ:
        return {}
    return {"PYTORCH_ENABLE_MPS_FALLBACK": "1"}


def allocator_environment() -> dict[str, str]:
    """Return the environment variables to start a computing process with."""
    if sys.platform != "linux" or "GLIBC_TUNABLES" in os.environ:
        return {}
    return {"GLIBC_TUNABLES": ALLOCATOR}
