"""`ectkd export`: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_ectkd.cli.drive import drive
from napari_ectkd.cli.options import DEFAULT_OUTPUT, FLAT, OutputOptions
from napari_ectkd.prediction.config import ExportConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_ectkd.events import Cancel, Event


def export(
    model: Path,
    *,
    out: Annotated[Path, Parameter(help="file to write, .onnx or .pt2")],
    config: Annotated[ExportConfig, FLAT] = ExportConfig(),  # noqa: B008
    output: OutputOptions = DEFAULT_OUTPUT,
) -> None:
    """Export a model for other programs, checked against the original.

    Parameters
    ----------
    model
        Run folder, or checkpoint file.
    """

    def stream(cancel: Cancel) -> Iterator[Event]:
        from napari_ectkd.prediction.export import export_model

        return export_model(model, out, config, cancel=cancel)

    console = output.console()
    console.result(drive(stream, console, output.folder()))
