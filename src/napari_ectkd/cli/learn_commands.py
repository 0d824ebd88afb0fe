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
    Output,
    OutputOptions,
)
from napari_ectkd.cli.submit import Submission
from napari_ectkd.dataset.config import DataConfig
from napari_ectkd.distillation.config import (
    DistillConfig,
    GenerationConfig,
    SearchConfig,
)
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Finished
from napari_ectkd.runs import Run
from napari_ectkd.training.config import SuspectConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

    from napari_ectkd.cli.console import Console
    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.training.config import TrainConfig


def train(
    *,
    data: Annotated[DataConfig, FLAT] = DataConfig(),  # noqa: B008
    out: Annotated[Path, Parameter(help="run folder to make")],
    config: Annotated[GenerationConfig, FLAT] = GenerationConfig(),  # noqa: B008
    resume: Annotated[bool, Parameter(negative=())] = False,
    where: Annotated[Submission, FLAT] = Submission(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Train a model, or several as one teacher, on labeled subtomograms.

    Parameters
    ----------
    resume
        Go on with the run in --out where it stopped, by its own settings, on the same
        device, in as many processes or on the same cluster unless something else is
        said.
    """
    run = Run(out)
    if resume:
        _check_resumed(data, config)
        where = _where(run, kept_settings(run, "train"), where)
        _move(run, config)
    elif config.generations != GenerationConfig().generations and not config.unlabeled:
        raise ConfigError("--generations is for teachers that learn from --unlabeled")
    else:
        _check(data, config, where)
        run.create(settings("train", data, config) | _kept(where))
    _carry_out(run, where, output, is_resumed=resume)


def distill(
    *,
    data: Annotated[DataConfig, FLAT] = DataConfig(),  # noqa: B008
    out: Annotated[Path, Parameter(help="run folder to make")],
    teacher: Annotated[
        list[Path],
        Parameter(help="run of a teacher; may be repeated", negative_iterable=()),
    ] = [],  # noqa: B006  cyclopts copies it
    config: Annotated[DistillConfig, FLAT] = DistillConfig(),  # noqa: B008
    search: Annotated[SearchConfig, FLAT] = SearchConfig(),  # noqa: B008
    resume: Annotated[bool, Parameter(negative=())] = False,
    where: Annotated[Submission, FLAT] = Submission(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Distill teachers into a compact student.

    Parameters
    ----------
    resume
        Go on with the run in --out where it stopped, by its own settings, on the same
        device, in as many processes or on the same cluster unless something else is
        said.
    """
    run = Run(out)
    teachers = [path.resolve() for path in teacher]
    if resume:
        _check_resumed(data, config, search)
        kept = kept_settings(run, "distill")
        where = _where(run, kept, where)
        if "search" in kept:
            _check_search(where)
        _move(run, config)
    elif not teachers:
        raise ConfigError("no teacher to learn from; name its run (--teacher RUN)")
    else:
        _check(data, config, where)
        kept = settings("distill", data, config)
        kept["teachers"] = list(map(str, teachers))
        if search.search:
            _check_search(where)
            kept["search"] = search.model_dump(mode="json")
        run.create(kept | _kept(where))
    _carry_out(run, where, output, is_resumed=resume)


def suspects(
    *,
    data: Annotated[DataConfig, FLAT] = DataConfig(),  # noqa: B008
    out: Annotated[Path, Parameter(help="file to write, .csv or (for picks) .star")],
    config: Annotated[SuspectConfig, FLAT] = SuspectConfig(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """List labels that networks which have not seen them confidently disagree with."""

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.training.suspects import suspect_labels

        result = yield from suspect_labels(data, config, out, cancel=cancel)
        yield Finished(result=result)

    if out.suffix not in (".csv", ".star"):
        raise ConfigError(f"{out}: the list is written as .csv or .star")
    console = output.console()
    result = drive(stream, console, output.folder())
    console.table(
        f"{result['n']} of {result['n_labels']} labels to look at again",
        ["row", "tomogram", "label", "seems to be", "margin"],
        [
            [
                str(row["row"]),
                row["tomogram"] or "–",
                row["label"],
                row["suggested"],
                f"{row['margin']:.2f}",
            ]
            for row in result["suspects"]
        ],
    )
    console.result(result)


def _check(data: DataConfig, config: TrainConfig, where: Submission) -> None:
    """Raise `ConfigError` if a setting of a new run would do nothing."""
    where.check()
    if data.stream is not None and config.balance:
        raise ConfigError(
            "--balance is for labels; of a stream, its settings say how often each "
            "class comes"
        )


def _check_resumed(*settings: BaseModel) -> None:
    """Raise `ConfigError` if a setting is given to a run that has its own.

    Where it computes may change: a GPU may be gone.
    """
    found = {name for some in settings for name in some.model_fields_set}
    said = sorted(found - {"device"})
    if said:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        raise ConfigError(
            f"{names}: a run goes on by its own settings; start another one with these"
        )


def _move(run: Run, config: TrainConfig) -> None:
    """Have a run go on on another device, if one is named."""
    if "device" not in config.model_fields_set:
        return
    kept = run.config()
    kept["config"]["device"] = config.device
    run.keep_config(kept)


def _check_search(where: Submission) -> None:
    if where.processes * where.nodes > 1:
        raise ConfigError(
            "a search trains in one process; leave --processes and --nodes"
        )


def _kept(where: Submission) -> dict[str, Any]:
    return {"where": where.model_dump(mode="json", exclude_unset=True)}


def _where(run: Run, kept: dict[str, Any], where: Submission) -> Submission:
    """Return where to go on with a run: where it began, but for what is said now.

    Runs of earlier versions do not say where.
    """
    began = kept_part(run, Submission, {"where": {}} | kept, "where")
    said = where.model_dump(exclude_unset=True)
    where = Submission(**began.model_dump(exclude_unset=True) | said)
    where.check()
    return where


def _carry_out(
    run: Run, where: Submission, output: Output, *, is_resumed: bool
) -> None:
    """Carry out a run by its settings: here, in several processes, or on a cluster."""
    console = output.console()
    if where.submit is not None:
        from napari_ectkd.cli.submit import submit

        job = submit(run, where, is_resumed=is_resumed)
        console.say(
            f"job {job['job']} is queued; `ectkd runs {run.path.parent}` says how it "
            f"stands, a file {run.cancel_path} stops it"
        )
        console.result(job)
        return
    if where.processes > 1:
        from napari_ectkd.cli.launch import carry_out_together

        result = carry_out_together(
            run, where.processes, console, is_resumed=is_resumed
        )
    else:
        # At once: torch takes seconds to load, and a second start in the same folder
        # would meanwhile put its settings in place of these.
        run.begin()
        from napari_ectkd.cli.worker import carry_out

        result = carry_out(run, console, is_resumed=is_resumed, was_queued=True)
    show_model(console, result)
    if "comparison" in result:
        show_comparison(console, result["comparison"])
    if "front" in result:
        _show_front(console, result["front"], run)
    if "agreement" in result:
        _show_agreement(console, result["agreement"])
    console.result(result)


def show_model(console: Console, result: dict[str, Any]) -> None:
    """Show how well a model did on its validation part."""
    if "report" in result:
        console.report(
            result["report"],
            f"{result['model']}, validation part, weights of epoch "
            f"{result['best_epoch']}",
        )


def show_comparison(console: Console, rows: list[dict[str, Any]]) -> None:
    """Show what teachers and student cost, and how well they do, a column each.

    Several teachers are one column, what they are together.
    """
    if "teachers" in {row["role"] for row in rows}:
        rows = [row for row in rows if row["role"] != "teacher"]
    slowest = max(row["ms_per_subtomogram"] for row in rows)
    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "parameters": lambda row: f"{row['parameters']:,}",
        "MACs (million)": lambda row: f"{row['macs'] / 1e6:,.1f}",
        "milliseconds": lambda row: f"{row['ms_per_subtomogram']:.3f}",
        "speed": lambda row: f"{slowest / row['ms_per_subtomogram']:.1f}×",
        "file size (kB)": lambda row: f"{row['size_bytes'] / 1000:,.0f}",
        "accuracy": lambda row: _share(row.get("val_accuracy")),
        "calibration error": lambda row: _share(row.get("calibration_error")),
        "unknown below": lambda row: _share(row.get("min_confidence") or None),
        "not unknown": lambda row: _share(row.get("kept")),
        "of these right": lambda row: _share(row.get("precision")),
    }
    console.table(
        "teacher and student on this machine",
        ["", *(_title(row["role"], row["name"]) for row in rows)],
        [[title, *map(get, rows)] for title, get in lines.items()],
    )


def _title(role: str, name: str) -> str:
    return role if role == name else f"{role}: {name}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _show_front(console: Console, rows: list[dict[str, Any]], run: Run) -> None:
    console.table(
        f"students tried, in {run.path}",
        ["trial", "network", "parameters", "ms", "speed", "accuracy", ""],
        [
            [
                str(row["trial"]),
                row["model"],
                f"{row['parameters']:,}",
                f"{row['ms_per_subtomogram']:.3f}",
                f"{row['speed']:.1f}×",
                f"{row['val_accuracy']:.3f}",
                "used" if row["is_used"] else "front" if row["is_on_front"] else "",
            ]
            for row in sorted(rows, key=lambda row: float(row["ms_per_subtomogram"]))
        ],
    )


def _show_agreement(console: Console, found: dict[str, Any]) -> None:
    console.table(
        f"student and teacher say the same of {found['share']:.1%} of the validation "
        "part",
        ["class", "number", "the same", "student right", "teacher right"],
        [
            [
                name,
                str(of["n"]),
                *(f"{of[key]:.3f}" for key in ("share", "student", "teacher")),
            ]
            for name, of in found["classes"].items()
        ],
    )
