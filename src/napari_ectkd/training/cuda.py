"""CUDA, its driver and torch: why they do not fit, in words, and what to do.

A driver older than the CUDA that torch was built for, a torch without kernels for the
GPU, or one for processors alone: each says little in its own words.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from napari_ectkd.training.finding import Finding


@dataclass(frozen=True)
class Cuda:
    """What torch and the driver say of CUDA; None where they say nothing.

    Attributes
    ----------
    built_for
        The CUDA version that torch was built for.
    driver
        The NVIDIA driver's version, by `nvidia-smi`.
    gpus
        The GPUs that the driver knows.
    is_available
        Whether torch can use one.
    architectures
        What torch has kernels for (`sm_90`).
    """

    built_for: str | None
    driver: str | None
    gpus: tuple[str, ...]
    is_available: bool
    architectures: tuple[str, ...] = ()


def ask_cuda() -> Cuda:
    """Return what torch and the driver of this machine say."""
    import torch

    driver, gpus = _driver()
    is_available = torch.cuda.is_available()
    return Cuda(
        torch.version.cuda,
        driver,
        gpus,
        is_available,
        tuple(torch.cuda.get_arch_list()) if is_available else (),
    )


def _driver() -> tuple[str | None, tuple[str, ...]]:
    """Return the NVIDIA driver's version and the names of its GPUs."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, ()
    query = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None, ()
    lines = [line.split(", ", 1) for line in done.stdout.splitlines() if ", " in line]
    if done.returncode or not lines:
        return None, ()
    return lines[0][0], tuple(name for _, name in lines)


def explain_cuda(cuda: Cuda) -> list[Finding]:
    """Return why there are GPUs that torch cannot use, if there are."""
    if cuda.is_available or (cuda.driver is None and cuda.built_for is None):
        return []
    names = ", ".join(cuda.gpus)
    if cuda.driver and cuda.built_for is None:
        return [
            Finding(
                "CUDA",
                "bad",
                f"there is a GPU ({names}), but this torch is built for processors "
                "alone: install one with CUDA, as https://pytorch.org/get-started says",
            )
        ]
    if cuda.driver:
        return [
            Finding(
                "CUDA",
                "bad",
                f"torch is built for CUDA {cuda.built_for}, which driver {cuda.driver} "
                f"of {names} does not offer: update the driver, or install a torch for "
                "an older CUDA",
            )
        ]
    return [
        Finding(
            "CUDA",
            "note",
            f"torch is built for CUDA {cuda.built_for}, and no NVIDIA driver is here; "
            "without an NVIDIA GPU that is right, with one, install its driver",
        )
    ]


def explain_error(error: BaseException, device: str, cuda: Cuda) -> str:
    """Return in words why a kernel failed on a device, and what to do."""
    text = str(error).strip().split("\n", 1)[0]
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in text:
        return f"its memory is full ({text}): close what else uses it"
    if "no kernel image" in text:
        known = ", ".join(cuda.architectures) or "others"
        return (
            f"this torch has no kernels for this GPU (it has them for {known}): "
            "install a torch that knows it, as https://pytorch.org/get-started says"
        )
    if "driver" in text.lower() and device.startswith("cuda"):
        return (
            f"driver {cuda.driver} does not fit CUDA {cuda.built_for} of this torch: "
            f"update the driver ({text})"
        )
    if "cudnn" in text.lower():
        return f"cuDNN does not work ({text}): install torch again, with its own cuDNN"
    if device == "mps" and isinstance(error, NotImplementedError):
        return (
            f"an operator is missing on Apple's GPU ({text}): it falls back to the "
            "processor if PYTORCH_ENABLE_MPS_FALLBACK=1 is set, as `ectkd` does"
        )
    return f"{text}; computing on the processor works (--device cpu)"
