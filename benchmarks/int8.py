"""Whether int8 pays: students in 8 bits against float32 and bfloat16, on a CPU.

    python benchmarks/int8.py --out benchmarks/results/int8-box40.json

All networks have their batch normalization folded. The runtimes take turns in one
process, on the same batch, with the same number of threads; the medians count. Random
weights: only the time is measured, and a faster int8 would still have to show its loss.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from napari_ectkd.models.folding import folded
from napari_ectkd.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor, nn

NETWORKS = ("compact_nano", "compact", "compact_wide", "residual_small")
BATCH, BOX, CLASSES, ROUNDS = 16, 40, 23, 9


class Noise(CalibrationDataReader):
    """Three batches to set the ranges of activations by."""

    def __init__(self, volumes: Tensor) -> None:
        self._batches = iter([{"x": volumes.numpy()}] * 3)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch."""
        return next(self._batches, None)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    rows = []
    for name in NETWORKS:
        torch.manual_seed(0)
        model = folded(build_model(name, CLASSES, BOX)).requires_grad_(False)
        times = measure(ways(model, torch.randn(BATCH, 1, *(BOX,) * 3)))
        base = times["torch float32"]
        for way, ms in times.items():
            rows.append({"network": name, "way": way, "ms": ms, "ratio": base / ms})
            print(f"{name:16s} {way:24s} {ms:7.3f} ms {base / ms:6.2f}×")
    if out:
        machine = {
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "box": BOX,
            "classes": CLASSES,
            "batch_size": BATCH,
        }
        out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def ways(model: nn.Module, volumes: Tensor) -> dict[str, Callable[[], object]]:
    """Return calls that run the network on the batch, by name."""
    layout = model.to(memory_format=torch.channels_last_3d)
    ordered = volumes.to(memory_format=torch.channels_last_3d)

    def in_torch(dtype: torch.dtype | None) -> Callable[[], object]:
        @torch.inference_mode()
        def run() -> object:
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                return layout(ordered)

        return run

    found = {
        "torch float32": in_torch(None),
        "torch bfloat16": in_torch(torch.bfloat16),
    }
    folder = Path(tempfile.mkdtemp())
    plain = folder / "plain.onnx"
    torch.onnx.export(
        model, (volumes,), plain, dynamo=True, input_names=["x"], verbose=False
    )
    quantize_dynamic(plain, folder / "dynamic.onnx", weight_type=QuantType.QUInt8)
    quantize_static(
        plain, folder / "static.onnx", Noise(volumes), quant_format=QuantFormat.QDQ
    )
    for way, file in (
        ("onnxruntime float32", plain),
        ("onnxruntime int8 dynamic", folder / "dynamic.onnx"),
        ("onnxruntime int8 static", folder / "static.onnx"),
    ):
        found[way] = in_onnxruntime(file, volumes.numpy())
    found["torch int8 (x86)"] = in_int8(model, volumes)
    return found


def in_onnxruntime(file: Path, volumes: np.ndarray) -> Callable[[], object]:
    """Return a call that runs an ONNX file, with as many threads as torch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": volumes})


def in_int8(model: nn.Module, volumes: Tensor) -> Callable[[], object]:
    """Return a call that runs torch's own static quantization for x86."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    prepared = prepare_fx(model, get_default_qconfig_mapping("x86"), (volumes,))
    prepared(volumes)
    quantized = convert_fx(prepared)

    @torch.inference_mode()
    def run() -> object:
        return quantized(volumes)

    return run


def measure(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return milliseconds per subtomogram by way: medians of interleaved rounds."""
    seconds: dict[str, list[float]] = {way: [] for way in calls}
    for turn in range(ROUNDS + 2):
        for way, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:
                seconds[way].append(time.perf_counter() - start)
    return {w: 1000 * statistics.median(s) / BATCH for w, s in seconds.items()}


if __name__ == "__main__":
    main()
