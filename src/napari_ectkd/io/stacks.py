"""Simulated data sets on disk: subtomograms in MRC stacks, their labels in a STAR file.

A folder holds `subtomograms_0000.mrc`, … (stacks of volumes, protein bright),
`subtomograms.star` (one row a subtomogram, `rlnImageName` saying which volume of which
stack it is) and `dataset.json`, written last: a folder without it is unfinished. All of
it is the same bytes for the same data: no file has the time in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from napari_ectkd.errors import ConfigError, FormatError
from napari_ectkd.io.atomic import atomic_path, make_folder
from napari_ectkd.io.formats import open_stack, write_mrc
from napari_ectkd.io.star_tables import (
    escaped,
    join_particles,
    unescaped,
    write_particles,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

INFO = "dataset.json"
TABLE = "subtomograms.star"
_UNFINISHED = "unfinished.json"
_PER_STACK = 512
_STACK_BYTES = 2**26
"""A stack is made in memory, twice: as it is written, its statistics are in float64."""


def per_stack(box: int) -> int:
    """Return how many subtomograms go into one MRC file."""
    return max(1, min(_PER_STACK, _STACK_BYTES // (4 * box**3)))


class StackInfo(BaseModel, frozen=True, extra="forbid"):
    """What is the same for all subtomograms of a data set."""

    version: int = 1
    box: int = Field(gt=0, description="voxels along each axis")
    voxel_size: float = Field(gt=0, description="Å")
    classes: list[str] = Field(description="class names, none last if there")
    tilt_range: tuple[float, float] | None = Field(None, description="degrees")
    noise: Literal["common", "per-particle"] = Field(
        "common", description="one noise level for all, or one a subtomogram"
    )
    snr: dict[str, float] = Field(
        default_factory=dict, description="signal to noise variance by class"
    )
    simulation: dict = Field(default_factory=dict, description="the settings, seed too")
    densities: dict[str, str] = Field(
        default_factory=dict, description="SHA-256 of the density file of each class"
    )


class StackWriter:
    """Writes a data set of subtomograms, stack by stack, in any order.

    Until the data set is finished, its folder holds `unfinished.json` (the facts that
    it was begun with) and a table beside each stack that is whole. What is finished is
    the same bytes whoever wrote which stack when.

    Parameters
    ----------
    folder
        New, empty, or with stacks of the same data set, which are kept.
    info
        What is the same for all subtomograms; `snr` may be set until the end.

    Raises
    ------
    ConfigError
        If the folder has files in it that another data set may need.
    WriteError
        If it cannot be written.
    """

    def __init__(self, folder: Path, info: StackInfo) -> None:
        self.folder = folder
        self.info = info
        unfinished = folder / _UNFINISHED
        if unfinished.exists() or (folder / INFO).exists():
            self._check_same()
        elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise ConfigError(f"{folder} is not an empty folder; name a new one")
        make_folder(folder)
        if self.is_finished:
            self._tidy()
        else:
            for left in folder.glob(".writing-*"):  # by a process that was killed
                left.unlink(missing_ok=True)
            _write_json(unfinished, info)

    @property
    def is_finished(self) -> bool:
        """Whether the data set is whole."""
        return (self.folder / INFO).exists()

    def has(self, number: int) -> bool:
        """Return whether a stack is there, whole."""
        return self._table(number).exists()

    def write(
        self,
        number: int,
        voxels: NDArray[np.float32],
        labels: Sequence[str],
        columns: Mapping[str, NDArray] | None = None,
    ) -> None:
        """Write one stack.

        Parameters
        ----------
        number
            Of the stack, from 0.
        voxels
            `(n, box, box, box)`, protein bright.
        labels
            `(n,)` class names.
        columns
            Further columns of the STAR file, `(n,)` each.
        """
        name = _stack_name(number)
        write_mrc(self.folder / name, voxels, self.info.voxel_size)
        rows = {
            "rlnImageName": [f"{i:06d}@{name}" for i in range(1, len(labels) + 1)],
            "ectkdLabel": [escaped(label) for label in labels],
        }
        # Last: the table says that the stack is whole.
        write_particles(self._table(number), pd.DataFrame(rows | dict(columns or {})))

    def finish(self, n_stacks: int) -> None:
        """Write the table of all stacks, and last the facts that make it whole."""
        tables = [self._table(number) for number in range(n_stacks)]
        join_particles(tables, self.folder / TABLE)
        _write_json(self.folder / INFO, self.info)
        self._tidy()

    def _tidy(self) -> None:
        for path in [*self.folder.glob(".*.star"), self.folder / _UNFINISHED]:
            path.unlink(missing_ok=True)

    def _table(self, number: int) -> Path:
        return self.folder / f".{_stack_name(number)}.star"

    def _check_same(self) -> None:
        name = INFO if self.is_finished else _UNFINISHED
        try:
            info = _read_json(self.folder / name)
        except (ValidationError, ValueError) as error:
            raise ConfigError(
                f"{self.folder}: {name} cannot be read; delete the folder, or name "
                "another"
            ) from error
        ours, theirs = (
            i.model_dump(mode="json", exclude={"snr", "simulation", "densities"})
            | i.simulation
            for i in (self.info, info)
        )
        other = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
        if other:
            what = ", ".join(
                f"{key} {theirs.get(key)} there, {ours.get(key)} now" for key in other
            )
            raise ConfigError(
                f"{self.folder} holds a data set of other settings ({what}); name a "
                "new folder, or simulate with its settings"
            )
        changed = [
            name
            for name, before in info.densities.items()  # none in earlier versions'
            if self.info.densities.get(name) != before
        ]
        if changed:
            raise ConfigError(
                f"{self.folder} was begun with another density of "
                f"{' and '.join(changed)}: the file has changed since; name a new "
                "folder, or bring the file back"
            )


def is_stack_folder(folder: Path) -> bool:
    """Return whether a folder is a data set of stacks, finished or not."""
    marks = (INFO, _UNFINISHED)
    return any((folder / mark).exists() for mark in marks) or any(
        folder.glob("subtomograms_*.mrc")
    )


def open_stacks(folder: Path) -> tuple[StackInfo, list[NDArray], list[str]]:
    """Open a data set of stacks.

    Returns
    -------
    info
        What is the same for all.
    volumes
        One `(box, box, box)` view into a memory map for each subtomogram.
    labels
        Its class name.

    Raises
    ------
    FormatError
        If the data set is unfinished or its files do not fit together.
    """
    import starfile

    if not (folder / INFO).exists():
        raise FormatError(
            f"{folder}: unfinished data set (no {INFO}); simulate it with the same "
            "settings, and it goes on where it stopped"
        )
    try:
        info = _read_json(folder / INFO)
        table = starfile.read(
            folder / TABLE, always_dict=True, parse_as_string=["ectkdLabel"]
        )["particles"]
        references = [str(name).split("@", 1) for name in table["rlnImageName"]]
        labels = [unescaped(str(label)) for label in table["ectkdLabel"]]
        names = sorted({name for _, name in references})
        stacks = {name: open_stack(folder / name).voxels for name in names}
        volumes = [stacks[name][int(number) - 1] for number, name in references]
    except (ValidationError, ValueError, KeyError, IndexError, OSError) as error:
        if isinstance(error, FormatError):
            raise
        what = " ".join(str(error).split())
        raise FormatError(
            f"{folder}: a broken data set ({what}); simulate it again"
        ) from error
    if any(volume.shape != (info.box,) * 3 for volume in volumes):
        raise FormatError(f"{folder}: not all subtomograms have the box {info.box}")
    return info, volumes, labels


def box_of(folder: Path) -> int | None:
    """Return the box of a data set of stacks; None of anything else."""
    try:
        return _read_json(folder / INFO).box
    except (ValidationError, ValueError, OSError):
        return None


def _stack_name(number: int) -> str:
    return f"subtomograms_{number:04d}.mrc"


def _read_json(path: Path) -> StackInfo:
    return StackInfo.model_validate(json.loads(path.read_text()))


def _write_json(path: Path, info: StackInfo) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(info.model_dump_json(indent=1) + "\n")
