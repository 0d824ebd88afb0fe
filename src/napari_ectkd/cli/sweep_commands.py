"""`ectkd sweep`, and what it shares with `ectkd classify` for many tomograms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.options import (
    DEFAULT_OUTPUT,
    FLAT,
    Output,
    OutputOptions,
    TomogramOptions,
)
from napari_ectkd.errors import ConfigError, DataError
from napari_ectkd.events import Finished, Saved
from napari_ectkd.prediction.config import ClassifyConfig, SweepConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_ectkd.events import Cancel, Event
    from napari_ectkd.io.tomogram_list import TomogramEntry
    from napari_ectkd.prediction.batch import Engine


def sweep(
    tomograms: Annotated[
        list[Path], Parameter(alias="--tomogram", negative_iterable=())
    ],
    *,
    model: Annotated[Path, Parameter(help="run folder, or checkpoint file")],
    out: Annotated[
        Path, Parameter(help="STAR file to write; for many tomograms a folder")
    ],
    config: Annotated[SweepConfig, FLAT] = SweepConfig(),  # noqa: B008
    scores: Annotated[
        Path | None,
        Parameter(help="OME-Zarr folder to write the scores of all positions to"),
    ] = None,
    mask: Annotated[
        Path | None,
        Parameter(
            help="volume of the tomogram's shape: picks only where it is above 0; "
            "for many also a folder, named as the tomograms"
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        Parameter(help="address of a Dask scheduler, or its file, for many tomograms"),
    ] = None,
    of: Annotated[TomogramOptions, FLAT] = TomogramOptions(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Search whole tomograms with a model; where each class is, without picking first.

    Parameters
    ----------
    tomograms
        MRC files (also .rec, .map, .gz), folders, quoted patterns ("tomos/*.mrc"), or a
        list (tomograms.json, or .txt with a path a line).
    """
    from napari_ectkd.io.tomogram_list import find_tomograms

    found = find_tomograms(tomograms)
    if is_many(found, out):
        run_many(
            found,
            model,
            config,
            out,
            mask=mask,
            scores=scores,
            scheduler=scheduler,
            of=of,
            output=output,
        )
        return
    refuse_scheduler(scheduler)

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.io.star import write_picks
        from napari_ectkd.prediction.sweep import sweep_tomogram
        from napari_ectkd.prediction.task import unfinished_file
        from napari_ectkd.prediction.tile_search import SweepFiles

        files = SweepFiles(mask, scores, unfinished_file(out), out.resolve().parent)
        opened = with_options(found[0], of).open()
        swept = yield from sweep_tomogram(model, opened, config, files, cancel=cancel)
        write_picks(out, swept.picks, opened.voxel_size)
        yield Saved(what="picks", path=str(out))
        if scores is not None:
            yield Saved(what="scores", path=str(scores))
        where = {"out": str(out), "scores": None if scores is None else str(scores)}
        yield Finished(result=swept.facts | where)

    console = output.console()
    result = drive(stream, console, output.folder())
    rows = [[name, str(n)] for name, n in result["counts"].items()]
    console.table(f"{result['n']} picks", ["prediction", "number"], rows)
    console.say(
        f"{result['voxels'] / 1e6:,.0f} million voxels in {result['seconds']:.1f} s, "
        f"{result['voxels_per_second'] / 1e6:.1f} million a second"
    )
    console.result(result)


def is_many(found: Sequence[TomogramEntry], out: Path) -> bool:
    """Return whether results go into a folder: one `.star` file holds one tomogram's.

    Raises
    ------
    ConfigError
        If several are to go into one file.
    """
    if out.suffix.lower() != ".star":
        return True
    if len(found) > 1:
        raise ConfigError(
            f"{len(found)} tomograms, but {out} is one STAR file; name a folder "
            "(--out), it gets one for each and a joint one"
        )
    return False


def run_many(
    found: Sequence[TomogramEntry],
    model: Path,
    config: SweepConfig | ClassifyConfig,
    out: Path,
    *,
    picks: Sequence[Path] = (),
    mask: Path | None = None,
    scores: Path | None = None,
    scheduler: str | None = None,
    of: TomogramOptions,
    output: Output,
) -> None:
    """Work on many tomograms and show what came of it.

    Raises
    ------
    DataError
        If any failed, once all is done and written.
    """
    said = [with_options(entry, of) for entry in found]

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.prediction.batch import in_this_process, make_tasks, run_tasks

        tasks = make_tasks(
            said, model, config, out, picks=picks, mask=mask, scores=scores
        )
        engine: Engine = in_this_process
        if scheduler is not None:
            engine = _dask_engine(scheduler)
        result = yield from run_tasks(tasks, out, engine, cancel=cancel)
        yield Finished(result=result)

    console = output.console()
    result = drive(stream, console, output.folder())
    rows = [
        [
            entry["name"],
            entry["state"],
            "" if entry["n"] is None else str(entry["n"]),
            ", ".join(f"{name} {n}" for name, n in entry["counts"].items()),
        ]
        for entry in result["tomograms"]
    ]
    console.table(
        f"{result['n']} picks in {len(rows)} tomograms",
        ["tomogram", "state", "picks", "predictions"],
        rows,
    )
    console.result(result)
    if result["failed"]:
        raise DataError(
            f"{result['failed']} of {len(rows)} tomograms failed (see "
            f"{result['summary']}); put them right and start again: what is done is "
            "kept"
        )


def refuse_scheduler(scheduler: str | None) -> None:
    """Raise `ConfigError` if a scheduler was named for a single STAR file."""
    if scheduler is not None:
        raise ConfigError(
            "--scheduler is for results in a folder: name one (--out FOLDER), which "
            "may well be for one tomogram"
        )


def _dask_engine(scheduler: str) -> Engine:
    try:
        from napari_ectkd.prediction.on_dask import on_dask
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--scheduler needs Dask ({error}); install napari-ectkd[cluster]"
        ) from error
    return on_dask(scheduler)


def with_options(entry: TomogramEntry, of: TomogramOptions) -> TomogramEntry:
    """Return an entry with what the user says of all, where its list says nothing."""
    facts: dict[str, Any] = {
        "voxel_size": entry.voxel_size or of.voxel_size,
        "is_inverted": of.invert if entry.is_inverted is None else entry.is_inverted,
        "tilt_range": entry.tilt_range or of.tilt_range,
    }
    return entry.model_copy(update=facts)
