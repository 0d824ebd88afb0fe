"""What several commands ask for: how to report, and what a file may not say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import BaseModel, Field

from napari_ectkd.cli.console import Console
from napari_ectkd.jobs import JobFolder

if TYPE_CHECKING:
    from napari_ectkd.io.tomogram import Tomogram

FLAT = Parameter(name="*", negative_iterable=())
"""A config whose fields are the command's own options."""


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


OutputOptions = Annotated[Output, FLAT]
DEFAULT_OUTPUT = Output()


def open_with(path: Path, of: TomogramOptions) -> Tomogram:
    """Return the opened tomogram, with what the user said of it."""
    from napari_ectkd.io.tomogram import open_tomogram

    return open_tomogram(
        path,
        voxel_size=of.voxel_size,
        is_inverted=of.invert,
        tilt_range=of.tilt_range,
    )
