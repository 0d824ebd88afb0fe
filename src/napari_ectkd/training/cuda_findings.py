"""Why GPUs that are there cannot be used, or not well: findings of the doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ectkd.devices.cuda import GET_TORCH, is_slow_in_3d
from napari_ectkd.training.finding import Finding

if TYPE_CHECKING:
    from napari_ectkd.devices.cuda import Cuda


def explain_cuda(cuda: Cuda) -> list[Finding]:
    """Return why torch cannot use GPUs that are there, or not well."""
    if cuda.is_available:
        return _explain_cudnn(cuda)
    if cuda.driver:
        return [_explain_gpus(cuda, ", ".join(cuda.gpus))]
    if "No devices were found" in cuda.driver_problem:
        return [Finding("CUDA", "note", "the NVIDIA driver finds no GPU")]
    if cuda.driver_problem:
        text = (
            f"the NVIDIA driver does not work ({cuda.driver_problem}): restart the "
            "machine, as is needed after the driver was updated; if that does not "
            "help, install the driver again"
        )
        return [Finding("CUDA", "bad", text)]
    if cuda.built_for is None:
        return []
    text = (
        f"torch is built for CUDA {cuda.built_for}, and no NVIDIA driver is here; "
        "without an NVIDIA GPU that is right, with one, install its driver"
    )
    return [Finding("CUDA", "note", text)]


def _explain_cudnn(cuda: Cuda) -> list[Finding]:
    """Say so if this cuDNN is one of those that are slow in 3D."""
    if cuda.cudnn is None or not is_slow_in_3d(cuda.cudnn):
        return []
    major, minor = cuda.cudnn // 10000, cuda.cudnn % 10000 // 100
    text = (
        f"cuDNN {major}.{minor} is slow in 3D convolutions in half precision, so that "
        f"float32 is taken instead: update torch, {GET_TORCH}"
    )
    return [Finding("cuDNN", "note", text)]


def _explain_gpus(cuda: Cuda, names: str) -> Finding:
    """Say why torch cannot use GPUs that the driver knows."""
    if cuda.built_for is None:
        text = (
            f"there is a GPU ({names}), but this torch is built for processors alone: "
            f"install one with CUDA, {GET_TORCH}"
        )
        return Finding("CUDA", "bad", text)
    if cuda.is_hidden:
        text = (
            f"there is a GPU ({names}), but CUDA_VISIBLE_DEVICES hides it: unset that, "
            "or ask the scheduler for a GPU"
        )
        return Finding("CUDA", "note", text)
    if "too old" in cuda.problem or "driver combination" in cuda.problem:
        text = (
            f"torch is built for CUDA {cuda.built_for}, which driver {cuda.driver} of "
            f"{names} does not offer: update the driver, or install a torch for an "
            f"older CUDA, {GET_TORCH}"
        )
        return Finding("CUDA", "bad", text)
    text = (
        f"torch cannot use {names} with driver {cuda.driver} ({cuda.problem}): restart "
        "the machine; if that does not help, install the driver again"
    )
    return Finding("CUDA", "bad", text)
