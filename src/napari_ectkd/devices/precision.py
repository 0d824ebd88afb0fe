"""The precision that pays on each device."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Literal

from napari_ectkd.devices.cuda import is_slow_in_3d
from napari_ectkd.errors import DeviceWarning

if TYPE_CHECKING:
    import torch


Precision = Literal["auto", "float32", "bfloat16", "float16"]

_WITHOUT_TENSOR_CORES = re.compile(
    r"GTX 16[356]0|MX450|\bT(400|500|550|600|1000|1200|2000)\b"
)
"""Of GPUs of compute capability 7.5, whose float16 is slow and known to turn to NaN."""


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
