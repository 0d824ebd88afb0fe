"""The memory of devices: how much is used, and whether it was too little."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

T = TypeVar("T")

_NO_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory"),
    *("ALLOC_FAILED", "Invalid buffer size", "unable to find an engine to execute"),
    *("could not create a primitive", "could not create a memory"),
)
"""What torch, CUDA's libraries and Metal say of it, each in another kind of error.
Where memory is short cuDNN, and oneDNN on a processor, find no way to compute."""


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
    elif sys.platform == "linux":
        # glibc keeps it, as `environment.ALLOCATOR` has it do, where the code that
        # oneDNN makes for each shape finds no room; other libraries have no such call.
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def if_it_fits(device: torch.device, call: Callable[[], T]) -> T | None:
    """Return what a call returns; None if it runs out of memory, which is freed then.

    The traceback of an error holds on to the tensors on its way: here it is over.
    """
    try:
        return call()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    free_memory(device)
    return None


@cache
def stay_in_its_memory(device: torch.device) -> None:
    """Run out of memory where a GPU's is full, as we can deal with.

    On Windows, and Linux within it, NVIDIA's driver takes the machine's memory instead,
    and computing slows down many times without a word.
    """
    import platform

    import torch

    if sys.platform == "win32" or "microsoft" in platform.release().lower():
        free, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(free / total, device)
