"""Commands on one tomogram: `ectkd pick`, `ectkd classify` and `ectkd view`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.options import (
    DEFAULT_OUTPUT,
    FLAT,
    OutputOptions,
    TomogramOptions,
    open_with,
)
from napari_ectkd.cli.sweep_commands import (
    is_many,
    refuse_scheduler,
    run_many,
    with_options,
)
from napari_ectkd.errors import ConfigError
from napari_ectkd.events import Finished, Saved
from napari_ectkd.picking.config import PickConfig
from napari_ectkd.prediction.config import ClassifyConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.events import Cancel, Event


def pick(
    tomogram: Path,
    *,
    out: Annotated[Path, Parameter(help="STAR file to write")],
    config: Annotated[PickConfig, FLAT],
    of: Annotated[TomogramOptions, FLAT] = TomogramOptions(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
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

        opened = open_with(tomogram, of)
        picks = yield from pick_blobs(opened, config, cancel=cancel)
        write_picks(out, picks, opened.voxel_size)
        yield Saved(what="picks", path=str(out))
        yield Finished(result={"n": len(picks), "voxel_size": opened.voxel_size})

    console = output.console()
    result = drive(stream, console, output.folder())
    console.say(f"{result['n']} picks")
    console.result(result)


def classify(
    tomograms: Annotated[
        list[Path], Parameter(alias="--tomogram", negative_iterable=())
    ],
    *,
    picks: Annotated[
        list[Path],
        Parameter(
            help="STAR file of the picks; for many tomograms one of all, or a folder "
            "or pattern of files named as the tomograms",
            negative_iterable=(),
        ),
    ],
    model: Annotated[Path, Parameter(help="run folder, or checkpoint file")],
    out: Annotated[
        Path, Parameter(help="STAR file to write; for many tomograms a folder")
    ],
    config: Annotated[ClassifyConfig, FLAT] = ClassifyConfig(),  # noqa: B008
    scheduler: Annotated[
        str | None,
        Parameter(help="address of a Dask scheduler, or its file, for many tomograms"),
    ] = None,
    of: Annotated[TomogramOptions, FLAT] = TomogramOptions(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Classify the picks of tomograms with a model.

    Parameters
    ----------
    tomograms
        MRC files (also .rec, .map, .gz), folders, quoted patterns ("tomos/*.mrc"), or a
        list (tomograms.json, or .txt with a path a line).
    """
    from napari_ectkd.io.tomogram_list import find_files, find_tomograms

    found = find_tomograms(tomograms)
    files = find_files(picks, ".star")
    if is_many(found, out):
        run_many(
            found,
            model,
            config,
            out,
            picks=files,
            scheduler=scheduler,
            of=of,
            output=output,
        )
        return
    refuse_scheduler(scheduler)
    if len(files) > 1:
        raise ConfigError(
            f"{len(files)} files of picks for one tomogram; name one (--picks)"
        )

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.io.star import read_picks, write_picks
        from napari_ectkd.prediction.picks import classify_picks

        opened = with_options(found[0], of).open()
        read = read_picks(files[0], voxel_size=of.voxel_size)
        classed = yield from classify_picks(model, opened, read, config, cancel=cancel)
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
    of: Annotated[TomogramOptions, FLAT] = TomogramOptions(),  # noqa: B008
) -> None:
    """Open napari with a tomogram, its classified picks and the studio.

    Parameters
    ----------
    tomogram
        MRC file (also .rec, .map, .gz).
    """
    from napari_ectkd.gui.view import show

    opened = open_with(tomogram, of)
    show(opened, picks, model, screenshot)


def _counts(names: Any) -> tuple[list[str], list[int]]:
    import numpy as np

    found, counts = np.unique(names.astype(str), return_counts=True)
    return [name or "no prediction" for name in found], [int(n) for n in counts]
