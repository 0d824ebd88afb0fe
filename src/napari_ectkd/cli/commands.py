"""One function a command: it makes the stream of its stage and shows the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter
from pydantic import BaseModel, Field, ValidationError

from napari_ectkd.cli.console import Console
from napari_ectkd.cli.drive import drive
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import DistillConfig
from napari_ectkd.errors import ConfigError, FormatError
from napari_ectkd.events import Finished, Saved
from napari_ectkd.picking.config import PickConfig
from napari_ectkd.prediction.config import ClassifyConfig
from napari_ectkd.runs import JobFolder, Run
from napari_ectkd.simulation.config import SubtomogramSimulation, TomogramSimulation
from napari_ectkd.training.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.events import Cancel, Event

_Settings = TypeVar("_Settings", bound=BaseModel)
_FLAT = Parameter(name="*", negative_iterable=())


class Output(BaseModel, frozen=True, extra="forbid"):
    """How a command reports."""

    json_result: Annotated[bool, Parameter(name="--json", negative=())] = Field(
        False, description="print the result as JSON on the output, and nothing else"
    )
    job: Path | None = Field(
        None,
        description="folder for an event log; a file `cancel` in it stops the work",
    )

    def console(self) -> Console:
        """Return what shows the events."""
        return Console(is_json=self.json_result)

    def folder(self) -> JobFolder | None:
        """Return the job's folder, if there is to be one."""
        return JobFolder(self.job) if self.job else None


class TomogramOptions(BaseModel, frozen=True, extra="forbid"):
    """What a tomogram's file may not say."""

    voxel_size: float | None = Field(
        None, gt=0, description="Å, in place of the tomogram's header"
    )
    invert: bool | None = Field(
        None, description="protein is dark in the file; default: guessed"
    )
    tilt_range: tuple[float, float] | None = Field(
        None, description="degrees, lowest and highest tilt about y, if known"
    )


_Output = Annotated[Output, _FLAT]
_DEFAULT = Output()


def simulate_subtomograms(
    config: Annotated[SubtomogramSimulation, _FLAT], *, output: _Output = _DEFAULT
) -> None:
    """Simulate a data set of subtomograms, each with its class."""
    from napari_ectkd.simulation.subtomograms import simulate_subtomograms as simulate

    console = output.console()
    result = drive(lambda c: simulate(config, cancel=c), console, output.folder())
    _show_snr(console, result)
    console.result(result)


def simulate_tomogram(
    config: Annotated[TomogramSimulation, _FLAT], *, output: _Output = _DEFAULT
) -> None:
    """Simulate a tomogram of many particles, with the list of what is where."""
    from napari_ectkd.simulation.tomogram import simulate_tomogram as simulate

    console = output.console()
    result = drive(lambda c: simulate(config, cancel=c), console, output.folder())
    _show_snr(console, result)
    console.result(result)


def pick(
    tomogram: Path,
    *,
    out: Annotated[Path, Parameter(help="STAR file to write")],
    config: Annotated[PickConfig, _FLAT],
    of: Annotated[TomogramOptions, _FLAT] = TomogramOptions(),  # noqa: B008
    output: _Output = _DEFAULT,
) -> None:
    """Pick particles of one diameter automatically, by difference of Gaussians.

    Parameters
    ----------
    tomogram
        MRC file (also .rec, .map, .gz).
    """

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.io.star import write_picks
        from napari_ectkd.picking.blobs import pick_blobs

        opened = _open(tomogram, of)
        picks = yield from pick_blobs(opened, config, cancel=cancel)
        write_picks(out, picks, opened.voxel_size)
        yield Saved(what="picks", path=str(out))
        yield Finished(result={"n": len(picks), "voxel_size": opened.voxel_size})

    console = output.console()
    result = drive(stream, console, output.folder())
    console.say(f"{result['n']} picks")
    console.result(result)


def train(
    *,
    data: Annotated[DataConfig, _FLAT] = DataConfig(),  # noqa: B008
    out: Annotated[Path, Parameter(help="run folder to make")],
    config: Annotated[TrainConfig, _FLAT] = TrainConfig(),  # noqa: B008
    resume: Annotated[bool, Parameter(negative=())] = False,
    output: _Output = _DEFAULT,
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
        kept = _kept_settings(run, "train")
        data = _kept(run, DataConfig, kept, "data")
        config = _kept(run, TrainConfig, kept, "config")
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
    data: Annotated[DataConfig, _FLAT] = DataConfig(),  # noqa: B008
    out: Annotated[Path, Parameter(help="run folder to make")],
    teacher: Annotated[
        list[Path],
        Parameter(help="run of a teacher; may be repeated", negative_iterable=()),
    ] = [],  # noqa: B006  cyclopts copies it
    config: Annotated[DistillConfig, _FLAT] = DistillConfig(),  # noqa: B008
    resume: Annotated[bool, Parameter(negative=())] = False,
    output: _Output = _DEFAULT,
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
    if resume:
        kept = _kept_settings(run, "distill")
        data = _kept(run, DataConfig, kept, "data")
        config = _kept(run, DistillConfig, kept, "config")
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


def classify(
    tomogram: Path,
    *,
    picks: Annotated[Path, Parameter(help="STAR file of the picks")],
    model: Annotated[Path, Parameter(help="run folder, or checkpoint file")],
    out: Annotated[Path, Parameter(help="STAR file to write")],
    config: Annotated[ClassifyConfig, _FLAT] = ClassifyConfig(),  # noqa: B008
    of: Annotated[TomogramOptions, _FLAT] = TomogramOptions(),  # noqa: B008
    output: _Output = _DEFAULT,
) -> None:
    """Classify the picks of a tomogram with a model.

    Parameters
    ----------
    tomogram
        MRC file (also .rec, .map, .gz).
    """

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.io.star import read_picks, write_picks
        from napari_ectkd.prediction.picks import classify_picks

        opened = _open(tomogram, of)
        found = read_picks(picks, voxel_size=of.voxel_size)
        classed = yield from classify_picks(model, opened, found, config, cancel=cancel)
        write_picks(out, classed, opened.voxel_size)
        yield Saved(what="classified picks", path=str(out))
        names, counts = _counts(classed.prediction)
        yield Finished(
            result={"n": len(classed), "counts": dict(zip(names, counts, strict=True))}
        )

    console = output.console()
    result = drive(stream, console, output.folder())
    rows = [[name, str(n)] for name, n in result["counts"].items()]
    console.table(f"{result['n']} picks", ["prediction", "number"], rows)
    console.result(result)


def test(
    *,
    data: Annotated[DataConfig, _FLAT] = DataConfig(),  # noqa: B008
    model: Annotated[Path, Parameter(help="run folder, or checkpoint file")],
    config: Annotated[ClassifyConfig, _FLAT] = ClassifyConfig(),  # noqa: B008
    output: _Output = _DEFAULT,
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
    output: _Output = _DEFAULT,
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
    batch_size: Annotated[int, Parameter(help="subtomograms timed at once")] = 16,
    device: Annotated[str, Parameter(help="where to measure")] = "auto",
    output: _Output = _DEFAULT,
) -> None:
    """List the networks: parameters, multiply-accumulates, time per subtomogram."""
    from napari_ectkd.devices import choose_device
    from napari_ectkd.models.cost import count_macs, count_parameters, time_models
    from napari_ectkd.models.registry import MODELS, build_model

    if not 8 <= box <= 256:
        raise ConfigError(f"--box: 8 to 256 voxels, not {box}")
    fitting = [spec for spec in MODELS.values() if spec.min_box <= box]
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
    for spec in MODELS.values():
        if spec.min_box > box:
            console.say(f"{spec.name} needs a box of at least {spec.min_box}")
    console.result({"box": box, "classes": classes, "models": rows})


def view(
    tomogram: Path,
    *,
    picks: Annotated[
        Path | None, Parameter(help="STAR file to show over the tomogram")
    ] = None,
    model: Annotated[
        Path | None, Parameter(help="run to offer for classifying")
    ] = None,
    screenshot: Annotated[
        Path | None, Parameter(help="save the window as PNG, and close it")
    ] = None,
    of: Annotated[TomogramOptions, _FLAT] = TomogramOptions(),  # noqa: B008
) -> None:
    """Open napari with a tomogram, its classified picks and the studio.

    Parameters
    ----------
    tomogram
        MRC file (also .rec, .map, .gz).
    """
    from napari_ectkd.gui.view import show

    opened = _open(tomogram, of)
    show(opened, picks, model, screenshot)


def _open(path: Path, of: TomogramOptions) -> Any:
    from napari_ectkd.io.tomogram import open_tomogram

    return open_tomogram(
        path,
        voxel_size=of.voxel_size,
        is_inverted=of.invert,
        tilt_range=of.tilt_range,
    )


def settings(kind: str, data: DataConfig, config: TrainConfig) -> dict[str, Any]:
    """Return a run's settings as JSON, with paths that hold from any folder."""
    kept = data.model_copy(
        update={
            "data": [path.resolve() for path in data.data],
            "tomograms": [path.resolve() for path in data.tomograms],
        }
    )
    return {
        "kind": kind,
        "data": kept.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
    }


def _kept_settings(run: Run, kind: str) -> dict[str, Any]:
    kept = run.config()
    if kept.get("kind") != kind:
        raise ConfigError(
            f"{run.path} is a run of `ectkd {kept.get('kind')}`; resume it with that"
        )
    # Before the log is written to: a finished run stays finished.
    run.check_resumable()
    return kept


def _kept(run: Run, kind: type[_Settings], kept: dict[str, Any], key: str) -> _Settings:
    """Return one part of the settings that a run was started with."""
    try:
        return kind.model_validate(kept.get(key))
    except ValidationError as error:
        what = "; ".join(f"{p['loc']}: {p['msg']}" for p in error.errors())
        raise FormatError(
            f"{run.config_path}: settings that this version cannot read ({what}); "
            "start a new run"
        ) from error


def _counts(names: Any) -> tuple[list[str], list[int]]:
    import numpy as np

    found, counts = np.unique(names.astype(str), return_counts=True)
    return [name or "no prediction" for name in found], [int(n) for n in counts]


def _show_snr(console: Console, result: dict[str, Any]) -> None:
    snr = result.get("snr", {})
    if snr:
        text = ", ".join(f"{name} {value:.3g}" for name, value in snr.items())
        console.say(f"SNR in the box by class: {text}")


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
