"""Simulated data sets on disk: subtomograms in MRC stacks, their labels in a STAR file.

A folder holds `subtomograms_0000.mrc`, … (stacks of volumes, protein bright),
`subtomograms.star` (one row a subtomogram, `rlnImageName` saying which volume of which
stack it is) and `dataset.json`, written last: a folder without it is unfinished.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from napari_ectkd.errors import ConfigError, FormatError
from napari_ectkd.io.atomic import atomic_path, make_folder
from napari_ectkd.io.formats import open_stack, write_mrc
from napari_ectkd.io.star_tables import escaped, unescaped, write_particles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

INFO = "dataset.json"
TABLE = "subtomograms.star"
PER_STACK = 512
"""Most subtomograms in one MRC file."""


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


class StackWriter:
    """Writes the subtomograms of a data set, stack after stack.

    Raises
    ------
    ConfigError
        If the folder has files in it that another data set may need.
    WriteError
        If it cannot be written.
    """

    def __init__(self, folder: Path, info: StackInfo) -> None:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise ConfigError(f"{folder} is not an empty folder; name a new one")
        self.folder = make_folder(folder)
        self.info = info
        self._rows: list[dict] = []
        self._waiting: list[NDArray[np.float32]] = []
        self._n_stacks = 0

    def add(self, voxels: NDArray[np.float32], label: str, **columns: float) -> None:
        """Add one subtomogram `(box, box, box)`, with further STAR columns."""
        number = len(self._waiting) + 1
        name = f"subtomograms_{self._n_stacks:04d}.mrc"
        self._rows.append(
            {
                "rlnImageName": f"{number:06d}@{name}",
                "ectkdLabel": escaped(label),
                **columns,
            }
        )
        self._waiting.append(np.asarray(voxels, dtype=np.float32))
        if number == PER_STACK:
            self._flush()

    def finish(self) -> None:
        """Write what is left, the table, and last the facts that make it whole."""
        self._flush()
        write_particles(self.folder / TABLE, pd.DataFrame(self._rows))
        with atomic_path(self.folder / INFO) as temporary:
            temporary.write_text(self.info.model_dump_json(indent=1) + "\n")

    def _flush(self) -> None:
        if self._waiting:
            path = self.folder / f"subtomograms_{self._n_stacks:04d}.mrc"
            write_mrc(path, np.stack(self._waiting), self.info.voxel_size)
            self._waiting, self._n_stacks = [], self._n_stacks + 1


def is_stack_folder(folder: Path) -> bool:
    """Return whether a folder is a data set of stacks, finished or not."""
    return (folder / INFO).exists() or any(folder.glob("subtomograms_*.mrc"))


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
            f"{folder}: unfinished data set (no {INFO}); simulate it again"
        )
    try:
        info = StackInfo.model_validate(json.loads((folder / INFO).read_text()))
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
