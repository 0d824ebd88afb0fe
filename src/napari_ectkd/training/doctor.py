"""Whether this machine can do the work: real kernels, versions, memory, the window.

A device that is listed is not yet one that computes: a driver older than the CUDA that
torch was built for, or a GPU that it has no kernels for, shows in the first convolution
alone. So one is run, forward and backward, and its gradients are compared with the
processor's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_ectkd.devices import (
    choose_precision,
    compiler_problem,
    list_devices,
    mps_environment,
)
from napari_ectkd.events import Finished, Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import torch

    from napari_ectkd.devices import Device
    from napari_ectkd.events import Cancel, Event

Verdict = Literal["good", "note", "bad"]
_WINDOW_SECONDS = 90
_TOLERANCE = 1e-2
"""Relative; GPUs multiply in TF32, with 10 bits."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what
        What was looked at.
    verdict
        `note` is something to know that stops nothing.
    text
        What was found and, where it is not good, what to do.
    """

    what: str
    verdict: Verdict
    text: str


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


def examine(*, cancel: Cancel) -> Iterator[Event]:
    """Look at devices, versions, memory and the window; `Finished` holds the findings.

    Parameters
    ----------
    cancel
        Looked at before each check.
    """
    return _examine(cancel)


def _examine(cancel: Cancel) -> Generator[Event, None, None]:
    findings = [_versions()]
    devices = list_devices()
    stages = [*(f"a convolution on {d.title}" for d in devices), "napari and OpenGL"]
    cuda = _cuda()
    findings += explain_cuda(cuda)
    for number, device in enumerate(devices):
        cancel.check()
        yield Progress(stage=stages[number], done=number, total=len(stages))
        findings.append(_device(device, cuda))
    cancel.check()
    yield Progress(stage=stages[-1], done=len(stages) - 1, total=len(stages))
    findings += [_memory(), *_window(), *_extras()]
    yield Finished(
        result={
            "findings": [vars(finding) for finding in findings],
            "is_good": all(finding.verdict != "bad" for finding in findings),
        }
    )


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


def try_kernel(device: torch.device) -> tuple[float, float]:
    """Run a 3D convolution forward and backward on a device.

    Returns
    -------
    difference
        Largest difference of its gradient from the processor's in double precision,
        relative to the largest gradient.
    seconds
        Of a run after the first.
    """
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(4, 8, 24, 24, 24, generator=generator)
    kernel = torch.randn(16, 8, 3, 3, 3, generator=generator)

    def gradient(where: torch.device, dtype: torch.dtype) -> torch.Tensor:
        weight = kernel.to(where, dtype).requires_grad_()
        loss = functional.conv3d(volumes.to(where, dtype), weight, padding=1).relu()
        loss.mean().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        return weight.grad.detach().cpu().double()

    expected = gradient(torch.device("cpu"), torch.float64)
    found = gradient(device, torch.float32)
    start = time.perf_counter()
    gradient(device, torch.float32)
    seconds = time.perf_counter() - start
    difference = (found - expected).abs().max() / expected.abs().max()
    return float(difference), seconds


def _versions() -> Finding:
    import platform
    from importlib.metadata import version

    import torch

    return Finding(
        "versions",
        "good",
        f"napari-ectkd {version('napari-ectkd')}, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
    )


def _device(device: Device, cuda: Cuda) -> Finding:
    """Run a kernel on a device and judge it."""
    import torch

    what = f"{device.name}: {device.title}"
    where = torch.device(device.name)
    try:
        difference, seconds = try_kernel(where)
    except (RuntimeError, NotImplementedError) as error:
        return Finding(what, "bad", explain_error(error, device.name, cuda))
    if not difference < _TOLERANCE:
        return Finding(
            what,
            "bad",
            f"a convolution is wrong by {difference:.0%}: the device or its driver is "
            "broken; compute on another",
        )
    free = device.free_bytes
    parts = [f"a convolution, forward and backward, is right ({1000 * seconds:.0f} ms)"]
    parts += [] if free is None else [f"{free / 2**30:.1f} GiB free"]
    precision = choose_precision(where, "auto")
    parts.append("in float32" if precision is None else f"fastest in {precision}")
    if device.name == "mps":
        is_set = bool(os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK"))
        parts.append(
            "operators that Apple's GPU lacks run on the processor"
            if is_set or mps_environment()
            else "operators that it lacks are errors (PYTORCH_ENABLE_MPS_FALLBACK=1)"
        )
    return Finding(what, "good", ", ".join(parts).replace("torch.", ""))


def _cuda() -> Cuda:
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


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    if free < 2:
        return Finding(
            "memory", "note", f"{free:.1f} GiB free; close other programs to train"
        )
    return Finding("memory", "good", f"{free:.1f} GiB free")


def _window() -> list[Finding]:
    """Ask napari, in a process of its own: without a screen Qt ends its process."""
    code = "from napari.utils.info import sys_info; print(sys_info())"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_WINDOW_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return [Finding("window", "note", "napari took too long to say its version")]
    return read_window_report(done.stdout if done.returncode == 0 else "")


def read_window_report(report: str) -> list[Finding]:
    """Return what napari's report of itself says of the window.

    Parameters
    ----------
    report
        Of `napari.utils.info.sys_info`; empty if it could not be had.
    """
    facts: dict[str, str] = {}
    for line in report.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(" -"), value.strip())  # plugins come later
    if "napari" not in facts:
        return [
            Finding(
                "window",
                "note",
                "no window can be opened here (no screen, or no Qt: pip install "
                "'napari-ectkd[qt]'); the command line does all the rest",
            )
        ]
    bindings = [n for n in ("PyQt6", "PySide6", "PyQt5", "PySide2") if n in facts]
    qt = ", ".join(f"{name} {facts[name]}" for name in bindings) or "no Qt"
    opengl = facts.get("GL version", "")
    if not opengl:
        return [
            Finding(
                "window",
                "note",
                f"napari {facts['napari']}, {qt}, but no OpenGL: install the graphics "
                "driver, or open napari on a machine with a screen",
            )
        ]
    text = f"napari {facts['napari']}, {qt}, OpenGL {opengl}"
    if "GL_MAX_3D_TEXTURE_SIZE" in facts:
        text += (
            f", volumes up to {facts['GL_MAX_3D_TEXTURE_SIZE']} voxels an axis in 3D"
        )
    return [Finding("window", "good", text)]


def _extras() -> list[Finding]:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = compiler_problem(device)
    text = f"not possible: {problem}" if problem else "possible"
    return [Finding("--compile", "note" if problem else "good", text)]
