"""Commands that say how good or fast: `ectkd test`, `evaluate` and `models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.options import (
    DEFAULT_OUTPUT,
    FLAT,
    OutputOptions,
)
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Finished
from napari_ectkd.prediction.config import ClassifyConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.events import Cancel, Event


def test(
    *,
    data: Annotated[DataConfig, FLAT] = DataConfig(),  # noqa: B008
    model: Annotated[Path, Parameter(help="run folder, or checkpoint file")],
    config: Annotated[ClassifyConfig, FLAT] = ClassifyConfig(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Test a model on labeled subtomograms that it was not trained on."""

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.prediction.labeled import score_model

        report = yield from score_model(model, data, config, cancel=cancel)
        yield Finished(result=report.as_dict())

    console = output.console()
    result = drive(stream, console, output.folder())
    console.report(result, f"{model} on {', '.join(map(str, data.data))}")
    console.result(result)


def evaluate(
    classes: Path,
    truth: Path,
    *,
    radius: Annotated[float, Parameter(help="Å, farthest that a pick may be off")],
    voxel_size: Annotated[
        float | None, Parameter(help="Å, where a STAR file does not say")
    ] = None,
    label_column: Annotated[
        str | None, Parameter(help="STAR column of the true classes")
    ] = None,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Compare classified picks with the truth; misses and false alarms count.

    Parameters
    ----------
    classes
        STAR file of classified picks.
    truth
        STAR file of true particles with their classes.
    """

    def stream(_cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.evaluation.report import evaluate_picks
        from napari_ectkd.io.star import read_picks

        found = read_picks(classes, voxel_size=voxel_size)
        true = read_picks(truth, voxel_size=voxel_size, label_column=label_column)
        yield Finished(result=evaluate_picks(found, true, radius).as_dict())

    console = output.console()
    result = drive(stream, console, output.folder())
    console.report(result, f"{classes} against {truth}, within {radius:g} Å")
    console.result(result)


def models(
    *,
    box: Annotated[int, Parameter(help="voxels along each axis")] = 32,
    classes: Annotated[int, Parameter(help="number of classes")] = 10,
    time: Annotated[
        bool, Parameter(help="measure on this machine too", negative=())
    ] = False,
    monai: Annotated[
        bool, Parameter(help="MONAI's networks too, if it is installed", negative=())
    ] = False,
    batch_size: Annotated[int, Parameter(help="subtomograms timed at once")] = 16,
    device: Annotated[str, Parameter(help="where to measure")] = "auto",
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """List the networks: parameters, multiply-accumulates, time per subtomogram."""
    from napari_ectkd.devices.choice import choose_device
    from napari_ectkd.models.cost import count_macs, count_parameters, time_models
    from napari_ectkd.models.registry import MODELS, available_models, build_model

    if not 8 <= box <= 256:
        raise ConfigError(f"--box: 8 to 256 voxels, not {box}")
    specs = available_models() if monai else list(MODELS.values())
    fitting = [spec for spec in specs if spec.min_box <= box]
    rows: list[dict[str, Any]] = []
    built = [build_model(spec.name, classes, box) for spec in fitting]
    for spec, model in zip(fitting, built, strict=True):
        rows.append(
            {
                "name": spec.name,
                "kind": spec.kind,
                "title": spec.title,
                "parameters": count_parameters(model),
                "macs": count_macs(spec.name, classes, box),
            }
        )
    if time:
        where = choose_device(device)
        times = time_models(built, box, where, batch_size=batch_size)
        for row, milliseconds in zip(rows, times, strict=True):
            row["ms_per_subtomogram"] = milliseconds
    console = output.console()
    columns = ["name", "kind", "parameters", "MACs (million)", "what"]
    console.table(
        f"box {box}, {classes} classes",
        columns[:4] + ["ms"] * time + columns[4:],
        [
            [
                row["name"],
                row["kind"],
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e6:,.1f}",
                *([f"{row['ms_per_subtomogram']:.3f}"] if time else []),
                row["title"],
            ]
            for row in rows
        ],
    )
    for spec in specs:
        if spec.min_box > box:
            console.say(f"{spec.name} needs a box of at least {spec.min_box}")
    console.result({"box": box, "classes": classes, "models": rows})
