import os

import pytest
import torch

from napari_ectkd.devices.cuda import Cuda, ask_cuda, explain_error
from napari_ectkd.devices.kernels import Trial
from napari_ectkd.events import Cancel, Finished
from napari_ectkd.training import doctor
from napari_ectkd.training.cuda_findings import explain_cuda
from napari_ectkd.training.doctor import (
    Finding,
    examine,
    read_window_report,
)

NONE = Cuda(None, None, (), False)

# What torch says.
TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040)."
UNKNOWN = "CUDA unknown error - this may be due to an incorrectly set up environment"


def test_a_device_that_computes_nonsense_is_found(monkeypatch):
    device = next(d for d in doctor.list_devices() if d.name == "cpu")
    monkeypatch.setattr(doctor, "try_kernels", lambda _: Trial(0.5, 0.001))
    found = doctor._device(device, NONE)
    assert found.verdict == "bad"
    assert "wrong by 50%" in found.text
    nonsense = Trial(float("nan"), 0.001)
    monkeypatch.setattr(doctor, "try_kernels", lambda _: nonsense)
    assert doctor._device(device, NONE).verdict == "bad"


@pytest.mark.parametrize(
    ("cuda", "verdict", "says"),
    [
        (Cuda(None, "570.1", ("H100",), False), "bad", "built for processors alone"),
        (
            Cuda("13.0", "470.2", ("GTX",), False, problem=TOO_OLD),
            "bad",
            "which driver 470.2 of GTX does not offer: update the driver",
        ),
        # As after a laptop has slept.
        (
            Cuda("13.0", "580.1", ("GTX",), False, problem=UNKNOWN),
            "bad",
            f"driver 580.1 ({UNKNOWN}): restart",
        ),
        (
            Cuda("13.0", "580.1", ("GTX",), False, is_hidden=True),
            "note",
            "CUDA_VISIBLE_DEVICES hides it",
        ),
        (
            Cuda("13.0", None, (), False, driver_problem="library version mismatch"),
            "bad",
            "(library version mismatch): restart the machine",
        ),
        (
            Cuda("13.0", None, (), False, driver_problem="No devices were found"),
            "note",
            "finds no GPU",
        ),
        (Cuda("13.0", None, (), False), "note", "no NVIDIA driver is here"),
    ],
)
def test_a_mismatch_is_explained(cuda, verdict, says):
    [found] = explain_cuda(cuda)
    assert found.verdict == verdict
    assert says in found.text


@pytest.mark.skipif(os.name != "posix", reason="nvidia-smi is a shell script here")
@pytest.mark.parametrize(
    ("script", "driver", "gpus", "problem"),
    [
        ("echo 570.1, H100; echo 570.1, H200", "570.1", ("H100", "H200"), ""),
        ("echo Driver/library mismatch; exit 18", None, (), "Driver/library mismatch"),
        ("echo no driver >&2; exit 9", None, (), "no driver"),
        ("exit 9", None, (), "nvidia-smi ends with 9"),
    ],
)
def test_the_driver_is_asked(tmp_path, monkeypatch, script, driver, gpus, problem):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    found = ask_cuda()
    assert found.is_hidden
    assert (found.driver, found.gpus, found.driver_problem) == (driver, gpus, problem)


def test_a_slow_cudnn_is_said():
    [found] = explain_cuda(Cuda("12.8", "570", ("H100",), True, cudnn=91002))
    assert found.verdict == "note"
    assert "cuDNN 9.10 is slow" in found.text


@pytest.mark.parametrize(
    "cuda",
    [
        NONE,
        Cuda("13.0", "570", ("H100",), True),
        Cuda("13.0", "570", ("H100",), True, cudnn=92400),
        Cuda("12.6", "570", ("H100",), True, cudnn=90501),
    ],
)
def test_where_nothing_is_wrong_nothing_is_said(cuda):
    assert explain_cuda(cuda) == []


@pytest.mark.parametrize(
    ("error", "device", "says"),
    [
        (RuntimeError("CUDA error: no kernel image is available"), "cuda:0", "sm_90"),
        (torch.OutOfMemoryError("CUDA out of memory."), "cuda:0", "memory is full"),
        (
            RuntimeError("CUDA driver version is insufficient"),
            "cuda:0",
            "update the dr",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS"), "cuda:0", "cuDNN does not work"),
        (NotImplementedError("aten::x for MPS"), "mps", "falls back to the processor"),
        (
            RuntimeError("strange\nlong trace"),
            "cuda:0",
            "strange",
        ),
    ],
)
def test_what_a_failed_kernel_means(error, device, says):
    cuda = Cuda("13.0", "470.1", ("H100",), True, ("sm_80", "sm_90"))
    assert says in explain_error(error, device, cuda)


REPORT = """napari: 0.9.2
PyQt6: 6.11.0
OpenGL:
  - PyOpenGL: 3.1.10
  - GL version:  4.5 (Compatibility Profile) Mesa 22.3.6
  - GL_MAX_3D_TEXTURE_SIZE: 2048
"""


def test_the_window_s_report():
    [found] = read_window_report(REPORT)
    assert found == Finding(
        "window",
        "good",
        "napari 0.9.2, PyQt6 6.11.0, OpenGL 4.5 (Compatibility Profile) Mesa 22.3.6, "
        "volumes up to 2048 voxels an axis in 3D",
    )
    [found] = read_window_report("")
    assert found.verdict == "note"
    assert "no window can be opened here" in found.text
    [found] = read_window_report("napari: 0.9.2\nPyQt6: 6.11.0\n")
    assert "no OpenGL" in found.text


def test_the_whole_examination(monkeypatch):
    monkeypatch.setattr(doctor, "_window", lambda: read_window_report(REPORT))
    *_, last = examine(cancel=Cancel())
    assert isinstance(last, Finished)
    assert last.result["is_good"]
    whats = [found["what"] for found in last.result["findings"]]
    assert whats[0] == "versions"
    assert any(what.startswith("cpu: ") for what in whats)
    assert {"memory", "window", "compiling networks"} <= set(whats)
