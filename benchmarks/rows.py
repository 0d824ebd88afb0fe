"""Rows of the accuracy benchmarks: the data, and one JSON file a row.

A row is one network trained one way on one draw of labels, scored on the common test
set. It is made alone, by one command, and skipped when its file is there, so that a
table fills over days and anyone can redo a row. Data and checkpoints stay in a work
folder, which is not kept with the project.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_ectkd.dataset.augment import IDENTITY, wedge_rotations
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.devices import choose_device, choose_precision
from napari_ectkd.events import Cancel, EpochEnd, Noted
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.models.cost import count_macs, count_parameters
from napari_ectkd.models.inference import infer_logits, to_device
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms
from napari_ectkd.training.loop import score_logits

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_ectkd.events import Event

RESULTS = Path(__file__).parent / "results" / "accuracy"
COMPLEXES = {
    "small": ("2cg9", "3d2f", "1u6g"),
    "medium": ("1bxn", "1qvr", "3cf3"),
    "large": ("3j9i", "4cr2", "4v4r"),
}
"""PDB entries from 180 to 2,300 kDa, by size; all fit a box of 32 voxels of 10 Å."""
BOX = 32
SNR = 0.05
TEST_PER_CLASS = 450
UNLABELED_PER_CLASS = 1200


@dataclass(frozen=True)
class Place:
    """Where the densities are, and where data and checkpoints go."""

    densities: Path
    work: Path

    def test(self) -> DataConfig:
        """Return the test set: 4,500 subtomograms, the same for all rows."""
        return self._data("test", TEST_PER_CLASS, seed=900_000)

    def labeled(self, labels: int, seed: int) -> DataConfig:
        """Return a draw of so many labeled subtomograms of each class."""
        return self._data(f"labeled-{labels}-{seed}", labels, 1000 * labels + seed)

    def unlabeled(self) -> Path:
        """Return the folder of 12,000 subtomograms whose labels nobody reads."""
        return self._data("unlabeled", UNLABELED_PER_CLASS, seed=800_000).data[0]

    def run(self, name: str) -> Path:
        """Return the run folder of a row."""
        return self.work / "runs" / name

    def _data(self, name: str, per_class: int, seed: int) -> DataConfig:
        folder = self.work / "data" / name
        if not (folder / ".whole").exists():
            densities = [
                self.densities / f"{entry}.mrc"
                for group in COMPLEXES.values()
                for entry in group
            ]
            config = SubtomogramSimulation(
                density=densities,
                out=folder,
                per_class=per_class,
                none=per_class,
                box=BOX,
                snr=SNR,
                seed=seed,
            )
            drain(simulate_subtomograms(config, cancel=Cancel()))
            (folder / ".whole").touch()
        return DataConfig(data=[folder])


@dataclass(frozen=True)
class Outcome:
    """What a trained row says of the test set."""

    logits: torch.Tensor
    targets: np.ndarray
    classes: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


def drain(stream: Iterator[Event]) -> dict[str, Any]:
    """Run a stage, printing its epochs; return its result."""
    result: dict[str, Any] = {}
    for event in stream:
        if isinstance(event, EpochEnd) and event.epoch % 10 == 0:
            shown = {k: round(v, 4) for k, v in event.metrics.items()}
            print(f"  epoch {event.epoch}/{event.epochs} {shown}", flush=True)
        elif isinstance(event, Noted):
            print(f"  {event.text}", flush=True)
        result = getattr(event, "result", result)
    return result


def ask(place: Place, runs: list[str], *, is_averaged: bool) -> Outcome:
    """Return what runs together say of the test set.

    Parameters
    ----------
    place
        Where the runs are.
    runs
        Their names; the logits of several are averaged.
    is_averaged
        Whether also over the rotations that keep the missing wedge.
    """
    data = _returned(load_dataset(place.test(), cancel=Cancel()))
    device = choose_device("auto")
    parts = []
    parameters = macs = 0
    for name in runs:
        model, info = load_checkpoint(place.run(name))
        views = wedge_rotations(data.tilt_range) if is_averaged else (IDENTITY,)
        parts.append(
            _returned(
                infer_logits(
                    to_device(model, device),
                    data.read,
                    np.arange(len(data)),
                    device=device,
                    dtype=choose_precision(device, "auto"),
                    batch_size=64,
                    cancel=Cancel(),
                    views=views,
                )
            )
        )
        parameters += count_parameters(model)
        macs += len(views) * count_macs(info.model, len(info.classes), info.box)
    return Outcome(
        torch.stack(parts).mean(dim=0),
        data.targets(info.classes),
        info.classes,
        {"parameters": parameters, "macs": macs},
    )


def write_row(name: str, facts: dict[str, Any], outcome: Outcome) -> None:
    """Score a row and write its file."""
    metrics, report = score_logits(outcome.logits, outcome.targets, outcome.classes)
    right = outcome.logits.argmax(dim=1).numpy() == outcome.targets
    names = np.array(outcome.classes, dtype=object)[outcome.targets]
    row = {
        "row": name,
        **facts,
        **outcome.facts,
        "accuracy": report.accuracy,
        "macro_f1": report.macro_f1,
        "test_loss": metrics["val_loss"],
        "accuracy_by_size": {
            size: float(right[np.isin(names, group)].mean())
            for size, group in COMPLEXES.items()
        },
        "recall": {k: round(v.recall, 4) for k, v in report.classes.items()},
        "n_test": len(right),
        "data": {"box": BOX, "snr": SNR, "densities": "densities_10A"},
        "machine": {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "commit": _commit(),
    }
    path = row_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(row, indent=1) + "\n")
    print(f"{name}: accuracy {report.accuracy:.4f}", flush=True)


def row_path(name: str) -> Path:
    """Return the file of a row."""
    return RESULTS / f"{name}.json"


def read_rows() -> dict[str, dict[str, Any]]:
    """Return all rows that are there, by name."""
    return {p.stem: json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))}


def summary(values: list[float]) -> str:
    """Return mean and spread (standard deviation over seeds) in percent."""
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


def _returned(stream: Generator[Event, None, Any]) -> Any:
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def _commit() -> str:
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return f"{os.cpu_count()} × {names[0]}" if names else platform.machine()
