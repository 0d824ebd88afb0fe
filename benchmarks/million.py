"""A million picks of one memory-mapped tomogram, classified; memory, rate and time.

The tomogram is noise on the disk, the picks are places drawn at random, the weights of
the student are random: the time depends on neither. Memory is the process's own, mapped
pages apart; it is given after each tenth of the work, where growth would show, and at
its peak, which is the table of all probabilities at the end. The load average says how
much else the machine had to do.

    python benchmarks/million.py --out benchmarks/results/million.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memory import PeakMemory, anonymous_bytes
from napari_ectkd.events import Cancel, Progress
from napari_ectkd.io.picks import Picks
from napari_ectkd.io.tomogram import open_tomogram
from napari_ectkd.prediction.config import ClassifyConfig
from napari_ectkd.prediction.picks import classify_picks
from sweep import BOX, STUDENT, write_model, write_tomogram

SHAPE = (256, 928, 928)


def main() -> None:
    """Measure, print, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picks", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="folder for the tomogram, 1 GB")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        figures = measure(Path(folder), arguments.picks)
    for key, value in figures.items():
        print(f"{key}: {value}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder: Path, n: int) -> dict[str, Any]:
    """Return the figures of n picks."""
    model = write_model(folder, STUDENT)
    tomogram = open_tomogram(
        write_tomogram(folder, SHAPE, np.float32), is_inverted=False
    )
    random = np.random.default_rng(0)
    places = random.integers(BOX, np.array(SHAPE) - BOX, (n, 3))
    picks = Picks.create(places * tomogram.voxel_size, tomogram.name)
    along: list[int] = []
    with PeakMemory() as memory:
        started = time.perf_counter()
        stream = classify_picks(
            model, tomogram, picks, ClassifyConfig(), cancel=Cancel()
        )
        while True:
            try:
                event = next(stream)
            except StopIteration as end:
                classified = end.value
                break
            if isinstance(event, Progress) and event.done > len(along) * n / 10:
                along.append(anonymous_bytes())
                print(f"{event.done} of {n}", flush=True)
        seconds = time.perf_counter() - started
    return {
        "student": STUDENT,
        "box": BOX,
        "picks": n,
        "classified": int(np.isfinite(classified.confidence).sum()),
        "seconds": round(seconds, 1),
        "picks_per_second": round(n / seconds),
        "memory_along_gib": [round(size / 2**30, 3) for size in along],
        "peak_memory_gib": round(memory.bytes / 2**30, 3),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
