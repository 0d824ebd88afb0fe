"""CUDA, its driver and torch: why they do not fit, in words, and what to do.

A driver older than the CUDA that torch was built for, a torch without kernels for the
GPU, or one for processors alone: each says little in its own words.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

_SLOW_IN_3D, _FAST_AGAIN = 91000, 91500
GET_TORCH = "as https://pytorch.org/get-started says"


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
    problem
        Why torch cannot use one, in its own words.
    driver_problem
        Why `nvidia-smi` knows no driver though it is there, in its own words.
    is_hidden
        Whether `CUDA_VISIBLE_DEVICES` keeps all GPUs from this process.
    cudnn
        The version of cuDNN (91002 for 9.10.2).
    """

    built_for: str | None
    driver: str | None
    gpus: tuple[str, ...]
    is_available: bool
    architectures: tuple[str, ...] = ()
    problem: str = ""
    driver_problem: str = ""
    is_hidden: bool = False
    cudnn: int | None = None


def is_slow_in_3d(cudnn: int | None) -> bool:
    """Return whether a version of cuDNN is bad at 3D convolutions in half precision.

    They take several times the time and the memory that others take, and very large
    inputs came out wrong (pytorch/pytorch#166122, #166643, #163539).
    """
    return cudnn is not None and _SLOW_IN_3D <= cudnn < _FAST_AGAIN


def ask_cuda() -> Cuda:
    """Return what torch and the driver of this machine say."""
    import torch

    driver, gpus, driver_problem = _driver()
    is_available = torch.cuda.is_available()
    return Cuda(
        torch.version.cuda,
        driver,
        gpus,
        is_available,
        tuple(torch.cuda.get_arch_list()) if is_available else (),
        "" if is_available else _problem(),
        driver_problem,
        os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"),
        torch.backends.cudnn.version() if is_available else None,  # type: ignore[no-untyped-call]
    )


def _problem() -> str:
    """Return why torch cannot use CUDA, in its own words."""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().split("\n", 1)[0]
    return ""


def _driver() -> tuple[str | None, tuple[str, ...], str]:
    """Return the NVIDIA driver's version, its GPUs, and what is wrong with it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, (), ""
    query = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return None, (), "nvidia-smi does not answer"
    except OSError as error:
        return None, (), str(error)
    lines = [line.split(", ", 1) for line in done.stdout.splitlines() if ", " in line]
    if done.returncode or not lines:
        said = f"{done.stdout.strip()} {done.stderr.strip()}".split("\n", 1)[0].strip()
        return None, (), said or f"nvidia-smi ends with {done.returncode}"
    return lines[0][0], tuple(name for _, name in lines), ""


def explain_error(error: BaseException, device: str, cuda: Cuda) -> str:
    """Return in words why a kernel failed on a device, and what to do."""
    text = str(error).strip().split("\n", 1)[0]
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in text:
        return f"its memory is full ({text}): close what else uses it"
    if "no kernel image" in text:
        known = ", ".join(cuda.architectures) or "others"
        return (
            f"this torch has no kernels for this GPU (it has them for {known}): "
            f"install a torch that knows it, {GET_TORCH}"
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
    return text
