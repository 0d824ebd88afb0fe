"""A student swept over whole tomograms, against patches and against the teacher.

End to end: the file is on the disk, statistics are taken, every fourth voxel is scored,
picks are written. Beside it the same student on patches at the same stride, and
DSRF3D-v2 on patches: both from a measured sample of boxes, extrapolated to all
positions of the grid. All in float32, box 40, 23 classes, on the same threads; each
sweep in a process of its own, so that its peak of anonymous memory is its own. Last, a
sparse file of 8 GB. The weights are random: the time does not depend on them, but for
the picks, of which there are as many as the threshold leaves.

    python benchmarks/sweep.py --out benchmarks/results/sweep.json
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch

from napari_ectkd.events import Cancel
from napari_ectkd.io.star import write_picks
from napari_ectkd.io.tomogram import open_tomogram
from napari_ectkd.models.checkpoint import (
    CheckpointInfo,
    Normalization,
    load_checkpoint,
    save_checkpoint,
)
from napari_ectkd.models.registry import build_model
from napari_ectkd.prediction.config import SweepConfig
from napari_ectkd.prediction.scorers import PatchScorer
from napari_ectkd.prediction.sweep import sweep_tomogram

BOX, CLASSES, STRIDE = 40, 23, 4
STUDENT, TEACHER = "compact", "dsrf3d_v2"
SHAPES = ((128, 512, 512), (256, 928, 928))
REPEATS = 3
"""Sweeps of each, of which the median counts."""
SPARSE = (512, 2000, 2000)
"""Voxels of float32: 8.2 GB."""
PATCHES = {STUDENT: 512, TEACHER: 64}
"""Boxes in the sample."""


def main() -> None:
    """Measure, print a table in Markdown, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder for the tomograms, 10 GB")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(sweep_one(*arguments.one)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        result = measure(Path(folder))
    show(result)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path) -> dict[str, Any]:
    """Return all figures."""
    model = write_model(folder, STUDENT)
    per_patch = {
        name: seconds_per_patch(write_model(folder, name), n)
        for name, n in PATCHES.items()
    }
    rows = []
    for shape in SHAPES:
        for kind in (np.float32, np.int8):
            path = write_tomogram(folder, shape, kind)
            found = [in_own_process(path, model) for _ in range(REPEATS)]
            median = sorted(found, key=lambda row: row["seconds"])[REPEATS // 2]
            rows.append(by_patches(median, per_patch))
            path.unlink()
    sparse = write_tomogram(folder, SPARSE, np.float32, is_sparse=True)
    return {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "box": BOX,
        "classes": CLASSES,
        "stride": STRIDE,
        "ms_per_patch": {name: 1e3 * s for name, s in per_patch.items()},
        "rows": rows,
        "sparse": in_own_process(sparse, model),
    }


def by_patches(row: dict[str, Any], per_patch: dict[str, float]) -> dict[str, Any]:
    """Return a row with what patches would take, and how many times longer."""
    seconds = {name: s * row["n_positions"] for name, s in per_patch.items()}
    ratio = {name: s / row["seconds"] for name, s in seconds.items()}
    return row | {"patches_seconds": seconds, "times_as_fast": ratio}


def write_model(folder: Path, name: str) -> Path:
    """Write a checkpoint of random weights."""
    torch.manual_seed(0)
    classes = [f"class{n:02}" for n in range(CLASSES - 1)] + ["none"]
    info = CheckpointInfo(
        model=name,
        classes=classes,
        diameters=dict.fromkeys(classes[:-1], 200.0),
        box=BOX,
        voxel_size=10.0,
        normalization=Normalization(mode="data"),
        trained_by="train",
    )
    model = build_model(name, CLASSES, BOX)
    if name == STUDENT:
        with torch.no_grad():
            # So that some positions are above the threshold: one pick in 600,000
            # voxels of noise, and more hits that are looked at twice and rejected.
            model.head.weight *= 160
    path = folder / f"{name}.safetensors"
    save_checkpoint(path, model, info)
    return path


def write_tomogram(
    folder: Path,
    shape: tuple[int, int, int],
    kind: type[np.generic],
    *,
    is_sparse: bool = False,
) -> Path:
    """Write noise, or a file that is empty but for noise in a few planes."""
    path = folder / f"{'x'.join(map(str, shape))}-{np.dtype(kind).name}.mrc"
    mode = {np.float32: 2, np.int8: 0}[kind]
    random = np.random.default_rng(0)
    with mrcfile.new_mmap(path, shape, mrc_mode=mode, overwrite=True) as mrc:
        mrc.voxel_size = 10.0
        for z in range(0, shape[0], shape[0] // 4 if is_sparse else 1):
            mrc.data[z] = (20 * random.standard_normal(shape[1:])).astype(kind)
    return path


def in_own_process(tomogram: Path, model: Path) -> dict[str, Any]:
    """Return the figures of a sweep in a fresh process."""
    command = [sys.executable, __file__, "--one", str(tomogram), str(model)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    print(row, file=sys.stderr, flush=True)
    return row


def sweep_one(path: Path, model: Path) -> dict[str, Any]:
    """Sweep a tomogram from its file to a STAR file; return the figures."""
    from memory import PeakMemory

    stream = sweep_tomogram  # imported before the clock starts, as in a long run
    with PeakMemory() as memory:
        started = time.perf_counter()
        tomogram = open_tomogram(path, is_inverted=False)
        running = stream(model, tomogram, SweepConfig(), cancel=Cancel())
        while True:
            try:
                next(running)
            except StopIteration as end:
                swept = end.value
                break
        write_picks(path.with_suffix(".star"), swept.picks, tomogram.voxel_size)
        seconds = time.perf_counter() - started
    return {
        "shape": list(tomogram.shape),
        "type": path.stem.rpartition("-")[2],
        "seconds": seconds,
        "voxels_per_second": float(np.prod(tomogram.shape)) / seconds,
        "n_positions": swept.facts["n_positions"],
        "n_picks": len(swept.picks),
        "peak_anonymous_bytes": memory.bytes,
    }


def seconds_per_patch(path: Path, n: int) -> float:
    """Return the time of one box, the median of three samples of n boxes."""
    model, info = load_checkpoint(path)
    scorer = PatchScorer(model, info, STRIDE, torch.device("cpu"), None, 64)
    # A row of n boxes, each four voxels from the one before.
    voxels = np.random.default_rng(0).standard_normal(
        (BOX, BOX, BOX + STRIDE * (n - 1)), dtype=np.float32
    )
    scorer(voxels[..., : BOX + STRIDE * 15])
    times = []
    for _ in range(3):
        started = time.perf_counter()
        scorer(voxels)
        times.append((time.perf_counter() - started) / n)
    return float(np.median(times))


def show(result: dict[str, Any]) -> None:
    """Print the figures as Markdown."""
    machine = result["machine"]
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    patches = ", ".join(f"{k} {v:.3f} ms" for k, v in result["ms_per_patch"].items())
    print(f"one patch: {patches}\n")
    print(
        "| tomogram | type | seconds | million voxels a second | memory | picks |",
        end="",
    )
    print(f" its own patches | {TEACHER} on patches |")
    print("|---|---|---|---|---|---|---|---|")
    for row in [*result["rows"], result["sparse"]]:
        shape = " × ".join(map(str, row["shape"]))
        cells = [
            shape,
            row["type"],
            f"{row['seconds']:.1f}",
            f"{row['voxels_per_second'] / 1e6:.1f}",
            f"{row['peak_anonymous_bytes'] / 2**30:.2f} GiB",
            str(row["n_picks"]),
        ]
        for name in (STUDENT, TEACHER):
            times = row.get("times_as_fast", {}).get(name)
            cells.append("–" if times is None else f"{times:,.0f} × as long")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
