"""Whether this machine can do the work: real kernels, versions, memory, the window.

A device that is listed is not yet one that computes: a driver older than the CUDA that
torch was built for, or a GPU that it has no kernels for, shows in the first convolution
alone. So a small network is run, forward and backward, and its gradients are compared
with the processor's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

from napari_ectkd.devices.choice import list_devices
from napari_ectkd.devices.compiler import compiler_problem
from napari_ectkd.devices.cuda import ask_cuda, explain_error
from napari_ectkd.devices.environment import mps_environment
from napari_ectkd.devices.kernels import try_kernels
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.events import Finished, Progress
from napari_ectkd.training.cuda_findings import explain_cuda
from napari_ectkd.training.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_ectkd.devices.choice import Device
    from napari_ectkd.devices.cuda import Cuda
    from napari_ectkd.events import Cancel, Event

_WINDOW_SECONDS = 90


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
    with warnings.catch_warnings():
        # That is explained here.
        warnings.filterwarnings("ignore", "CUDA initialization")
        devices, cuda = list_devices(), ask_cuda()
    stages = [*(f"a small network on {d.title}" for d in devices), "napari and OpenGL"]
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
        trial = try_kernels(where)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        why = explain_error(error, device.name, cuda)
        text = f"{why}; computing on the processor works (--device cpu)"
        return Finding(what, "bad", text)
    if not trial.is_right:
        return Finding(
            what,
            "bad",
            f"a small network is wrong by {trial.difference:.0%}: the device, its "
            "driver or torch is at fault; compute on another",
        )
    free = device.free_bytes
    ms = 1000 * trial.seconds
    parts = [f"a small network, forward and backward, is right ({ms:.0f} ms)"]
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
    return [Finding("compiling networks", "note" if problem else "good", text)]
