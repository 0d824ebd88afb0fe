"""The environment variables that a computing process is started with."""

from __future__ import annotations

import os
import sys

ALLOCATOR = (
    "glibc.malloc.mmap_max=0:glibc.malloc.mmap_threshold=4294967295:"
    "glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
)
"""Settings of glibc's allocator that keep large activations from being mapped and
unmapped by the kernel in each step, two thirds of the time of a training step on a CPU.
They count from a process's start."""


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
