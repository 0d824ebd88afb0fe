"""Rows of the accuracy benchmarks: the data, and one JSON file a row.

A row is one network trained one way on one draw of labels, scored on the common test
set. It is made alone, by one command, and skipped when its file is there, so that a
table fills over days and anyone can redo a row. Data and checkpoints stay in a work
folder, which is not kept with the project.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from machine import commit, processor
from napari_ectkd.cli.kept_settings import settings
from napari_ectkd.dataset.augment import IDENTITY, wedge_rotations
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.dataset.sources import load_dataset
from napari_ectkd.devices.choice import choose_device
from napari_ectkd.devices.precision import choose_precision
from napari_ectkd.distillation.distill import distill
from napari_ectkd.evaluation.calibration import softmax
from napari_ectkd.evaluation.metrics import calibration_error
from napari_ectkd.events import Cancel, EpochEnd, Noted
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.models.checkpoint import load_checkpoint
from napari_ectkd.models.cost import count_macs, count_parameters
from napari_ectkd.models.inference import infer_logits, to_device
from napari_ectkd.runs import Run
from napari_ectkd.simulation.config import SubtomogramSimulation
from napari_ectkd.simulation.subtomograms import simulate_subtomograms
from napari_ectkd.training.loop import score_logits
from napari_ectkd.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.events import Event
    from napari_ectkd.training.config import TrainConfig

RESULTS = Path(__file__).parent / "results" / "accuracy"
FIRST_DRAWS = RESULTS.with_name("accuracy-first-draws")
"""Rows on subtomograms that an earlier version of the simulation drew: of the same
settings and seeds, but others. Draw by draw they compare among themselves alone."""
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

    def soft_labels(self, name: str, config: DistillConfig) -> Path | None:
        """Return the file of what teachers say once of all data, if they do."""
        if config.teacher_sees == "view":
            return None
        return self.work / "soft_labels" / f"{name}.safetensors"

    def _data(self, name: str, per_class: int, seed: int) -> DataConfig:
        densities = [
            self.densities / f"{entry}.mrc"
            for group in COMPLEXES.values()
            for entry in group
        ]
        return simulated(
            SubtomogramSimulation(
                density=densities,
                out=self.work / "data" / name,
                per_class=per_class,
                none=per_class,
                box=BOX,
                snr=SNR,
                seed=seed,
            )
        )


@dataclass(frozen=True)
class Outcome:
    """What a trained row says of the test set."""

    logits: torch.Tensor
    targets: np.ndarray
    classes: list[str]
    test_sha256: str
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


def returned(stream: Generator[Event, None, Any]) -> Any:
    """Run a part of a stage without a word; return its value."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def simulated(config: SubtomogramSimulation) -> DataConfig:
    """Return a data set, simulated unless it is there whole."""
    if not (config.out / ".whole").exists():
        shutil.rmtree(config.out, ignore_errors=True)
        drain(simulate_subtomograms(config, cancel=Cancel()))
        (config.out / ".whole").touch()
    return DataConfig(data=[config.out])


def trained(
    path: Path,
    data: DataConfig,
    config: TrainConfig,
    stage: Callable[..., Iterator[Event]] = train,
) -> float:
    """Train a run unless it is there, or go on with it; return its seconds."""
    run = Run(path)
    timing = path / "seconds"
    if timing.exists():
        return float(timing.read_text())
    is_resumed = run.can_resume()
    if not is_resumed:
        shutil.rmtree(path, ignore_errors=True)
        run.create(settings("train", data, config))
    print(path.name, flush=True)
    result = drain(stage(data, config, run, cancel=Cancel(), is_resumed=is_resumed))
    timing.write_text(str(result["seconds"]))
    return float(result["seconds"])


def distilled(
    path: Path,
    teachers: list[Path],
    data: DataConfig,
    config: DistillConfig,
    soft_labels: Path | None = None,
) -> float:
    """Distill a run unless it is there; return its seconds.

    Parameters
    ----------
    path
        The run.
    teachers
        Their runs.
    data, config
        As `ectkd distill`.
    soft_labels
        File to keep what the teachers say in, for other students of theirs.
    """
    run = Run(path)
    timing = path / "seconds"
    if timing.exists():
        return float(timing.read_text())
    shutil.rmtree(path, ignore_errors=True)
    run.create(
        settings("distill", data, config) | {"teachers": list(map(str, teachers))}
    )
    if soft_labels is not None and soft_labels.exists():
        shutil.copyfile(soft_labels, path / "soft_labels.safetensors")
    print(path.name, flush=True)
    result = drain(distill(teachers, data, config, run, cancel=Cancel()))
    if soft_labels is not None:
        soft_labels.parent.mkdir(exist_ok=True)
        shutil.copyfile(path / "soft_labels.safetensors", soft_labels)
    timing.write_text(str(result["seconds"]))
    return float(result["seconds"])


def ask(test: DataConfig, runs: list[Path], *, is_averaged: bool) -> Outcome:
    """Return what runs together say of a test set.

    Parameters
    ----------
    test
        The test set.
    runs
        Run folders; the logits of several are averaged.
    is_averaged
        Whether also over the rotations that keep the missing wedge.
    """
    data = returned(load_dataset(test, cancel=Cancel()))
    device = choose_device("auto")
    parts = []
    parameters = macs = 0
    for path in runs:
        model, info = load_checkpoint(path)
        views = wedge_rotations(data.tilt_range) if is_averaged else (IDENTITY,)
        parts.append(
            returned(
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
        sha256(data.read(np.arange(min(len(data), 100))).tobytes()).hexdigest(),
        {"parameters": parameters, "macs": macs},
    )


def write_row(name: str, facts: dict[str, Any], outcome: Outcome) -> None:
    """Score a row of few labels and write its file."""
    right = outcome.logits.argmax(dim=1).numpy() == outcome.targets
    names = np.array(outcome.classes, dtype=object)[outcome.targets]
    by_size = {
        size: float(right[np.isin(names, group)].mean())
        for size, group in COMPLEXES.items()
    }
    data = {
        "box": BOX,
        "snr": SNR,
        "densities": "densities_10A",
        "test_sha256": outcome.test_sha256,
    }
    save_row(
        row_path(name),
        facts | {"accuracy_by_size": by_size, "data": data},
        outcome,
    )


def save_row(path: Path, facts: dict[str, Any], outcome: Outcome) -> None:
    """Score any row, and write it with how and where it was made."""
    metrics, report = score_logits(outcome.logits, outcome.targets, outcome.classes)
    row = {
        "row": path.stem,
        **facts,
        **outcome.facts,
        "accuracy": report.accuracy,
        "macro_f1": report.macro_f1,
        "test_loss": metrics["val_loss"],
        "calibration_error": calibration_error(
            softmax(outcome.logits), outcome.targets
        ),
        "recall": {k: round(v.recall, 4) for k, v in report.classes.items()},
        "n_test": len(outcome.targets),
        "machine": {
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "commit": commit(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(row, indent=1) + "\n")
    print(f"{path.stem}: accuracy {report.accuracy:.4f}", flush=True)


def row_path(name: str, folder: Path = RESULTS) -> Path:
    """Return the file of a row."""
    return folder / f"{name}.json"


def read_rows(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return all rows that are there, by name."""
    return {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}


def fill_table(
    description: str | None,
    names: list[str],
    make: Callable[[str, Place], None],
    table: Callable[[dict[str, dict[str, Any]]], None],
    folder: Path = RESULTS,
) -> None:
    """Make the rows that the command line asks for, or those that are missing; print.

    Parameters
    ----------
    description
        Of the command.
    names
        Of all rows, in the order to make them in.
    make
        Makes the row of a name.
    table
        Prints rows.
    folder
        Where the rows are.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("rows", nargs="*", help="names; default: all that are missing")
    parser.add_argument("--densities", type=Path, help="folder of MRC maps")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument(
        "--dirty",
        action="store_true",
        help="make rows also while files differ from the commit that they name",
    )
    parser.add_argument("--table", action="store_true", help="print, make nothing")
    parser.add_argument(
        "--first-draws",
        action="store_true",
        help="print the rows of an earlier version's draws, make nothing",
    )
    arguments = parser.parse_args()
    if arguments.first_draws:
        table(read_rows(FIRST_DRAWS))
        return
    if not arguments.table:
        if arguments.densities is None:
            parser.error("say where the densities are (--densities)")
        if commit().endswith("-dirty") and not arguments.dirty:
            parser.error("commit first: a row names the commit that can make it again")
        place = Place(arguments.densities, arguments.work)
        for name in arguments.rows or names:
            if not row_path(name, folder).exists():
                make(name, place)
    table(read_rows(folder))


def summary(values: list[float]) -> str:
    """Return mean and spread (standard deviation over seeds) in percent."""
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"
