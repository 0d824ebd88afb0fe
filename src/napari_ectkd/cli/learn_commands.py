"""`ectkd train` and `ectkd distill`: from labeled subtomograms to a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.kept_settings import kept_part, kept_settings, settings
from napari_ectkd.cli.options import (
    DEFAULT_OUTPUT,
    FLAT,
    OutputOptions,
)
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.errors import ConfigError
from napari_ectkd.runs import Run
from napari_ectkd.training.config import TrainConfig

if TYPE_CHECKING:
    from napari_ectkd.cli.console import Console


def train(
    *,
    data: Annotated[DataConfig, FLAT] = DataConfig(),  # noqa: B008
    out: Annotated[Path, Parameter(help="run folder to make")],
    config: Annotated[TrainConfig, FLAT] = TrainConfig(),  # noqa: B008
    resume: Annotated[bool, Parameter(negative=())] = False,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Train a model on labeled subtomograms.

    Parameters
    ----------
    resume
        Go on with the run in --out where it stopped, by its own settings.
    """
    from napari_ectkd.training.train import train as train_model

    run = Run(out)
    if resume:
        kept = kept_settings(run, "train")
        data = kept_part(run, DataConfig, kept, "data")
        config = kept_part(run, TrainConfig, kept, "config")
    else:
        run.create(settings("train", data, config))
    console = output.console()
    result = drive(
        lambda cancel: train_model(data, config, run, cancel=cancel, is_resumed=resume),
        console,
        run,
    )
    _show_model(console, result)
    console.result(result)


def distill(
    *,
    data: Annotated[DataConfig, FLAT] = DataConfig(),  # noqa: B008
    out: Annotated[Path, Parameter(help="run folder to make")],
    teacher: Annotated[
        list[Path],
        Parameter(help="run of a teacher; may be repeated", negative_iterable=()),
    ] = [],  # noqa: B006  cyclopts copies it
    config: Annotated[DistillConfig, FLAT] = DistillConfig(),  # noqa: B008
    resume: Annotated[bool, Parameter(negative=())] = False,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Distill teachers into a compact student.

    Parameters
    ----------
    resume
        Go on with the run in --out where it stopped, by its own settings.
    """
    from napari_ectkd.distillation.distill import distill as distill_student

    run = Run(out)
    teachers = [path.resolve() for path in teacher]
    unlabeled = [path.resolve() for path in config.unlabeled]
    config = config.model_copy(update={"unlabeled": unlabeled})
    if resume:
        kept = kept_settings(run, "distill")
        data = kept_part(run, DataConfig, kept, "data")
        config = kept_part(run, DistillConfig, kept, "config")
        teachers = [Path(path) for path in kept.get("teachers", [])]
    elif not teachers:
        raise ConfigError("no teacher to learn from; name its run (--teacher RUN)")
    else:
        run.create(
            settings("distill", data, config) | {"teachers": list(map(str, teachers))}
        )
    console = output.console()
    result = drive(
        lambda cancel: distill_student(
            teachers, data, config, run, cancel=cancel, is_resumed=resume
        ),
        console,
        run,
    )
    _show_model(console, result)
    show_comparison(console, result["comparison"])
    console.result(result)


def _show_model(console: Console, result: dict[str, Any]) -> None:
    if "report" in result:
        console.report(
            result["report"],
            f"{result['model']}, validation part, weights of epoch "
            f"{result['best_epoch']}",
        )


def show_comparison(console: Console, rows: list[dict[str, Any]]) -> None:
    """Show what teachers and student cost, and how well they do."""
    slowest = max(row["ms_per_subtomogram"] for row in rows)
    console.table(
        "teacher and student on this machine",
        ["name", "role", "parameters", "MACs (million)", "ms", "speed", "accuracy"],
        [
            [
                row["name"],
                row["role"],
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e6:,.1f}",
                f"{row['ms_per_subtomogram']:.3f}",
                f"{slowest / row['ms_per_subtomogram']:.1f}×",
                f"{row['val_accuracy']:.3f}" if "val_accuracy" in row else "–",
            ]
            for row in rows
        ],
    )
