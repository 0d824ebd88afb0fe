"""The whole job on phantoms: simulate, train, distill, pick, classify, evaluate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_ectkd.cli.console import Console
from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.kept_settings import settings
from napari_ectkd.cli.learn_commands import show_comparison
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Finished

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.events import Cancel, Event

DIAMETER = 250.0
"""Å, of a typical phantom."""
RADIUS = 100.0
"""Å, farthest that a pick may be from a true center."""
TILT_RANGE = (-60.0, 60.0)


def demo(
    *,
    out: Annotated[
        Path, Parameter(help="folder for all that is made; new or empty")
    ] = Path("demo"),
    seed: Annotated[int, Parameter(help="of everything random")] = 0,
    show: Annotated[
        bool, Parameter(help="open napari with the result at the end")
    ] = False,
    screenshot: Annotated[
        Path | None, Parameter(help="save napari's window as PNG instead")
    ] = None,
    json_result: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Run the main job on phantoms: from nothing to a student's colored points.

    Simulates a tomogram of seven kinds of phantoms and a training set, trains a
    teacher, distills a student, picks, classifies the picks and compares them with the
    truth.
    """
    console = Console(is_json=json_result)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; name another (--out)")
    started = time.monotonic()
    result = _run_stages(out, seed, console)
    console.say(f"done in {time.monotonic() - started:.0f} s; everything is in {out}")
    console.result(result)
    if show or screenshot:
        from napari_ectkd.gui.view import show as open_window
        from napari_ectkd.io.tomogram import open_tomogram

        tomogram = open_tomogram(
            out / "tomogram.mrc", is_inverted=False, tilt_range=TILT_RANGE
        )
        open_window(tomogram, out / "classes.star", out / "student", screenshot)


def _run_stages(out: Path, seed: int, console: Console) -> dict[str, Any]:
    from napari_ectkd.dataset.config import DataConfig
    from napari_ectkd.distillation.config import DistillConfig
    from napari_ectkd.distillation.distill import distill
    from napari_ectkd.io.star import read_picks
    from napari_ectkd.runs import Run
    from napari_ectkd.simulation.config import (
        SubtomogramSimulation,
        TomogramSimulation,
    )
    from napari_ectkd.simulation.subtomograms import simulate_subtomograms
    from napari_ectkd.simulation.tomogram import simulate_tomogram
    from napari_ectkd.training.config import TrainConfig
    from napari_ectkd.training.train import train

    tomogram, truth = out / "tomogram.mrc", out / "truth.star"
    console.say("\n1. a tomogram to find particles in, and a set to learn from")
    _drive(
        console,
        simulate_tomogram,
        TomogramSimulation(
            out=tomogram, truth=truth, per_class=12, tilt_range=TILT_RANGE, seed=seed
        ),
    )
    subtomograms = SubtomogramSimulation(
        out=out / "subtomograms",
        per_class=120,
        none=240,
        neighbors=0.5,
        # As far as automatic picks are: those of dumbbells sit on one of two lobes.
        off_center=4,
        tilt_range=TILT_RANGE,
        seed=seed + 1,
    )
    _drive(console, simulate_subtomograms, subtomograms)
    data = DataConfig(data=[subtomograms.out.resolve()])

    console.say("\n2. a teacher")
    teacher, student = Run(out / "teacher"), Run(out / "student")
    learning = TrainConfig(model="residual_small", epochs=30, seed=seed)
    teacher.create(settings("train", data, learning))
    drive(lambda c: train(data, learning, teacher, cancel=c), console, teacher)

    console.say("\n3. a student")
    distilling = DistillConfig(epochs=40, seed=seed)
    student.create(
        settings("distill", data, distilling)
        | {"teachers": [str(teacher.path.resolve())]}
    )
    learned = drive(
        lambda c: distill([teacher.path], data, distilling, student, cancel=c),
        console,
        student,
    )
    show_comparison(console, learned["comparison"])

    console.say("\n4. picks of the tomogram, classified by the student")
    drive(
        lambda c: _pick_and_classify(tomogram, student.path, out, c),
        console,
    )
    from napari_ectkd.evaluation.report import evaluate_picks

    report = evaluate_picks(
        read_picks(out / "classes.star"), read_picks(truth), RADIUS
    ).as_dict()
    console.report(
        report,
        f"student's picks against the truth, within {RADIUS:g} Å, misses counted",
    )
    return {"report": report, "comparison": learned["comparison"]}


def _drive(console: Console, simulate: Any, config: Any) -> None:
    drive(lambda cancel: simulate(config, cancel=cancel), console)


def _pick_and_classify(
    path: Path, model: Path, out: Path, cancel: Cancel
) -> Iterator[Event]:
    from napari_ectkd.io.star import write_picks
    from napari_ectkd.io.tomogram import open_tomogram
    from napari_ectkd.picking.blobs import pick_blobs
    from napari_ectkd.picking.config import PickConfig
    from napari_ectkd.prediction.config import ClassifyConfig
    from napari_ectkd.prediction.picks import classify_picks

    tomogram = open_tomogram(path, is_inverted=False, tilt_range=TILT_RANGE)
    picks = yield from pick_blobs(
        tomogram, PickConfig(diameter=DIAMETER), cancel=cancel
    )
    write_picks(out / "picks.star", picks, tomogram.voxel_size)
    classed = yield from classify_picks(
        model, tomogram, picks, ClassifyConfig(), cancel=cancel
    )
    write_picks(out / "classes.star", classed, tomogram.voxel_size)
    yield Finished(result={"n": len(classed)})
