"""Speed of all networks against the paper's teacher, in one process.

Each network runs on the same batch with the same threads, in its best layout, warm, the
networks taking turns; the figure is the median over rounds. Ratios are against
DSRF3D-v2 in float32. A second column gives each network's time in bfloat16.

    python benchmarks/models.py --box 40 --classes 23
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch

from napari_ectkd.devices.choice import choose_device
from napari_ectkd.models.cost import count_macs, count_parameters, time_models
from napari_ectkd.models.registry import MODELS, build_model

BASELINE = "dsrf3d_v2"


def main() -> None:
    """Measure, print a table in Markdown, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--box", type=int, default=40, help="voxels")
    parser.add_argument("--classes", type=int, default=23)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    names = [s.name for s in MODELS.values() if s.min_box <= arguments.box]
    models = [build_model(n, arguments.classes, arguments.box) for n in names]
    float32, bfloat16 = (
        time_models(
            models,
            arguments.box,
            device,
            batch_size=arguments.batch_size,
            rounds=arguments.rounds,
            dtype=dtype,
        )
        for dtype in (None, torch.bfloat16)
    )
    baseline = float32[names.index(BASELINE)]
    rows = [
        {
            "name": name,
            "parameters": count_parameters(model),
            "macs": count_macs(name, arguments.classes, arguments.box),
            "ms_float32": time32,
            "ratio_float32": baseline / time32,
            "ms_bfloat16": time16,
            "ratio_bfloat16": baseline / time16,
        }
        for name, model, time32, time16 in zip(
            names, models, float32, bfloat16, strict=True
        )
    ]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "box": arguments.box,
        "classes": arguments.classes,
        "batch_size": arguments.batch_size,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print("\n| network | parameters | MACs | float32 | bfloat16 |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['parameters'] / 1e6:.2f} M "
            f"| {row['macs'] / 1e6:,.0f} M "
            f"| {row['ms_float32']:.3f} ms ({row['ratio_float32']:.1f}×) "
            f"| {row['ms_bfloat16']:.3f} ms ({row['ratio_bfloat16']:.1f}×) |"
        )
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(
            json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
