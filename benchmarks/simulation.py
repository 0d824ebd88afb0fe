"""How fast subtomograms are simulated, whether training waits for them, and memory.

    python benchmarks/simulation.py speed waiting
    python benchmarks/simulation.py memory --densities FOLDER

Each part adds to benchmarks/results/simulation.json. The baseline of `speed` makes the
same subtomograms one by one, as one would write it with scipy and numpy: linear
interpolation of the same finely sampled density by `ndimage.affine_transform`, the
missing wedge by `numpy.fft` in the same padded box, noise with the wedge. Both have one
thread, and take turns.
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

import numpy as np
import psutil
import torch
from scipy import ndimage

from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.events import Cancel
from napari_ectkd.runs import Run
from napari_ectkd.simulation.config import SubtomogramSettings
from napari_ectkd.simulation.noise import padded
from napari_ectkd.simulation.orientations import random_rotations
from napari_ectkd.simulation.phantoms import phantoms
from napari_ectkd.simulation.poses import Sampler
from napari_ectkd.simulation.simulator import Simulator, signal_level
from napari_ectkd.simulation.tilt import wedge_mask
from napari_ectkd.training.config import TrainConfig
from napari_ectkd.training.learner import Learner
from napari_ectkd.training.lesson import Lesson
from napari_ectkd.training.objective import HardLabels
from napari_ectkd.training.stream import StreamBatches, StreamMaterial, prepare_stream

RESULT = Path(__file__).parent / "results" / "simulation.json"
BOX, TILTS = 32, (-60.0, 60.0)
ROUNDS, N = 5, 112


class OneByOne:
    """The baseline: one subtomogram after the other, by scipy and numpy."""

    def __init__(self, samplers: list[Sampler], level: float) -> None:
        self._fine = [s._source[0, 0].numpy() for s in samplers]
        self._center = samplers[0]._center
        self._scale = level**0.5
        self._wide = padded(BOX)
        self._masks = {n: wedge_mask((n,) * 3, TILTS) for n in (BOX, self._wide)}

    def signal(self, which: int, rotation: np.ndarray) -> np.ndarray:
        """Return a turned density after the wedge, in its box."""
        # Output voxel to fine voxel, zyx.
        matrix = 2 * rotation.T[::-1, ::-1]
        middle = self._wide // 2
        volume = ndimage.affine_transform(
            self._fine[which],
            matrix,
            offset=self._center - matrix @ np.full(3, middle),
            output_shape=(self._wide,) * 3,
            order=1,
        )
        start = middle - BOX // 2
        inside = slice(start, start + BOX)
        return self._seen(volume)[inside, inside, inside]

    def make(
        self, which: int, rotation: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """Return a subtomogram."""
        white = random.standard_normal((BOX,) * 3, dtype=np.float32)
        return self.signal(which, rotation) + self._scale * self._seen(white)

    def _seen(self, volume: np.ndarray) -> np.ndarray:
        shape = volume.shape
        return np.fft.irfftn(
            np.fft.rfftn(volume) * self._masks[shape[0]], s=shape, axes=(0, 1, 2)
        )


def speed() -> dict:
    """Return subtomograms a second, of ours and of the baseline."""
    torch.set_num_threads(1)
    densities = phantoms(10.0)
    settings = SubtomogramSettings(per_class=1, box=BOX, off_center=0)
    simulator = Simulator(
        settings, densities, signal_level(settings, densities, Cancel())
    )
    samplers = [Sampler(d) for d in densities]
    baseline = OneByOne(samplers, simulator._level)
    difference = _difference(simulator, samplers, baseline)
    classes = np.arange(N) % len(densities)
    rotations = random_rotations(N, np.random.default_rng(0))
    ours, theirs = [], []
    for number in range(ROUNDS):
        start = time.perf_counter()
        for _ in simulator.make(classes, np.random.SeedSequence(number)):
            continue
        ours.append(N / (time.perf_counter() - start))
        random = np.random.default_rng(number)
        start = time.perf_counter()
        for which, rotation in zip(classes, rotations, strict=True):
            baseline.make(int(which), rotation, random)
        theirs.append(N / (time.perf_counter() - start))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "per_second": round(float(np.median(ours)), 1),
        "baseline_per_second": round(float(np.median(theirs)), 1),
        "ratio": round(float(np.median(ratios)), 2),
        "ratio_by_round": [round(r, 2) for r in ratios],
        "largest_difference_of_signals": difference,
        "threads": 1,
    }


def _difference(
    simulator: Simulator, samplers: list[Sampler], baseline: OneByOne
) -> float:
    """Return how far the two's signals differ, in shares of the maximum."""
    rotations = random_rotations(3, np.random.default_rng(1))
    wide = torch.zeros(3, *[padded(BOX)] * 3)
    samplers[3].add_to(wide, np.arange(3), rotations, np.full((3, 3), padded(BOX) / 2))
    start = padded(BOX) // 2 - BOX // 2
    inside = slice(start, start + BOX)
    found = simulator._imaging.signal(wide)[:, inside, inside, inside].numpy()
    expected = np.stack([baseline.signal(3, r) for r in rotations])
    return round(float(np.abs(found - expected).max() / np.abs(expected).max()), 5)


class Timed(StreamBatches):
    """Batches that count how long one waits for them."""

    waited = 0.0

    def epoch(self, number, generator):
        """Yield the batches of an epoch."""
        batches = super().epoch(number, generator)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            Timed.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def waiting() -> dict:
    """Return the share of a compact student's training that it waits for its data."""
    torch.set_num_threads(1)
    found = {}
    StreamMaterial.batches = lambda self, *args: Timed(self, *args)
    for reuse in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "settings.json"
            settings = SubtomogramSettings(per_class=150, none=150, box=BOX)
            path.write_text(settings.model_dump_json())
            data = DataConfig(stream=path, stream_reuse=reuse)
            config = TrainConfig(
                model="compact", epochs=3, device="cpu", validation_fraction=0.1
            )
            material = _drained(prepare_stream(data, config, Cancel()))
            learner = Learner.create("compact", material, config, trained_by="train")
            run = Run(Path(folder) / "run")
            run.create({})
            Timed.waited, seconds, began = 0.0, 0.0, time.perf_counter()
            for event in learner.learn(
                Lesson(material, HardLabels(0.05)),
                config,
                run,
                cancel=Cancel(),
                is_resumed=False,
            ):
                if event.kind == "epoch_end":
                    seconds = time.perf_counter() - began
            found[f"shown {reuse} times"] = {
                "share_waited": round(Timed.waited / seconds, 4),
                "seconds": round(seconds, 1),
            }
    return {"student": "compact", "box": BOX, "threads": 1, **found}


def _drained(stream):
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def memory(densities: Path) -> dict:
    """Return the peak memory of `ectkd simulate subtomograms` and its processes."""
    found = {}
    for per_class, processes in ((50, 1), (500, 1), (500, 2)):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "napari_ectkd", "simulate", "subtomograms"]
            command += ["--density", str(densities), "--box", "40"]
            command += ["--per-class", str(per_class), "--out", f"{folder}/data"]
            start = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--processes", str(processes)], stderr=subprocess.DEVNULL
            )
            peak = 0
            while process.poll() is None:
                peak = max(peak, _memory_of_tree(process.pid))
                time.sleep(0.05)
            if process.returncode:
                raise SystemExit("simulating failed")
            found[f"{per_class} a class, {processes} processes"] = {
                "peak_mib": round(peak / 2**20),
                "seconds": round(time.perf_counter() - start, 1),
                "subtomograms": per_class * len(list(densities.glob("*.mrc"))),
            }
    return {"box": 40, "classes": len(list(densities.glob("*.mrc"))), **found}


def _memory_of_tree(pid: int) -> int:
    try:
        first = psutil.Process(pid)
        return sum(
            process.memory_info().rss
            for process in [first, *first.children(recursive=True)]
        )
    except psutil.NoSuchProcess:
        return 0


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="+", choices=["speed", "waiting", "memory"])
    parser.add_argument("--densities", type=Path)
    asked = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for part in asked.parts:
        made = {
            "speed": speed,
            "waiting": waiting,
            "memory": lambda: memory(asked.densities),
        }[part]()
        made["machine"] = f"{platform.machine()}, {psutil.cpu_count()} cores"
        result[part] = made
        print(part, json.dumps(made, indent=1))
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
