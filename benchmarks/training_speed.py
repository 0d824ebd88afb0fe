"""What each setting does to the time of a training step, in one process, interleaved.

The baseline is float32, eager, in the default layout, augmented by rotations and shifts
alone. Each row changes one thing more, or one thing alone where it says so; the
figure is the median over rounds in which the rows take turns.

    python benchmarks/training_speed.py --model residual_small --box 32
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_ectkd.dataset.augment import Augmentation
from napari_ectkd.dataset.config import AugmentConfig
from napari_ectkd.dataset.degrade import noise_spectrum
from napari_ectkd.devices.choice import choose_device, device_title
from napari_ectkd.devices.compiler import compiler_problem
from napari_ectkd.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = 10
SWITCHES = {"noise": 0.5, "contrast": 0.3, "defocus": 0.5, "cutout": 0.5}


def main() -> None:
    """Measure, print a table in Markdown, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="residual_small")
    parser.add_argument("--box", type=int, default=32, help="voxels")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    shape = (arguments.batch_size, 1, *(arguments.box,) * 3)
    volumes = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    volumes = volumes.to(device)
    targets = torch.arange(arguments.batch_size, device=device) % CLASSES

    def row(**how: object) -> Callable[[], None]:
        return make_step(arguments.model, arguments.box, volumes, targets, **how)

    steps = {
        "float32": row(),
        "and channels last": row(channels_last=True),
        "and bfloat16": row(channels_last=True, dtype=torch.bfloat16),
    }
    if not compiler_problem(device):
        steps["and compiled"] = row(
            channels_last=True, dtype=torch.bfloat16, is_compiled=True
        )
    for name, value in SWITCHES.items():
        steps[f"third row with {name}"] = row(
            channels_last=True, dtype=torch.bfloat16, augment={name: value}
        )
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(arguments.rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    base = medians["float32"]
    print(f"{arguments.model}, box {arguments.box}, batch {arguments.batch_size}\n")
    print("| step | ms | times as fast as float32 |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {1000 * median:.0f} | {base / median:.2f} |")
    if arguments.out:
        facts = {
            "model": arguments.model,
            "box": arguments.box,
            "batch_size": arguments.batch_size,
            "device": device_title(device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seconds": medians,
        }
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


def make_step(
    name: str,
    box: int,
    volumes: torch.Tensor,
    targets: torch.Tensor,
    *,
    channels_last: bool = False,
    dtype: torch.dtype | None = None,
    is_compiled: bool = False,
    augment: dict[str, float] | None = None,
) -> Callable[[], None]:
    """Return a function that does one training step."""
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    model = build_model(name, CLASSES, box).to(volumes.device, memory_format=layout)
    learning = torch.compile(model) if is_compiled else model
    optimizer = torch.optim.AdamW(model.parameters())
    augmentation = Augmentation(
        AugmentConfig(**(augment or {})), (-60, 60), noise_spectrum(volumes)
    )
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        varied = augmentation(volumes, generator).to(memory_format=layout)
        with torch.autocast(
            volumes.device.type, dtype=dtype, enabled=dtype is not None
        ):
            loss = functional.cross_entropy(learning(varied).float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
