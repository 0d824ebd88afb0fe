"""The folder in which a window keeps its picks, labels and classes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from napari_ectkd.errors import FormatError, WriteError
from napari_ectkd.gui.palette import Palette
from napari_ectkd.io.atomic import atomic_path, make_folder
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.io.tomogram_list import (
    TomogramEntry,
    read_tomogram_list,
    write_tomogram_list,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram


class ClassList(BaseModel, frozen=True, extra="forbid"):
    """`classes.json`: names in order, their colors, and the particle diameter in Å."""

    classes: list[str] = []
    colors: dict[str, str] = {}
    diameter: float = 250.0

    @property
    def palette(self) -> Palette:
        """The colors."""
        return Palette(self.colors)


def default_folder(tomogram_path: Path) -> Path:
    """Return `ectkd` beside a tomogram, or in the user's data if that is read-only."""
    beside = tomogram_path.resolve().parent / "ectkd"
    try:
        return make_folder(beside)
    except WriteError:
        import platformdirs

        data = platformdirs.user_data_path("napari-ectkd")
        return make_folder(data / tomogram_path.resolve().parent.name)


def read_classes(folder: Path) -> ClassList | None:
    """Read the class list; None if there is none yet.

    Raises
    ------
    FormatError
        If it is broken.
    """
    path = folder / "classes.json"
    if not path.exists():
        return None
    try:
        return ClassList.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise FormatError(f"{path}: not a list of classes ({error})") from error


def write_classes(folder: Path, classes: ClassList) -> None:
    """Write the class list.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    with atomic_path(folder / "classes.json") as temporary:
        temporary.write_text(classes.model_dump_json(indent=1))


def find_entry(folder: Path, path: Path) -> TomogramEntry | None:
    """Return what was said of a tomogram when it was open before; None if nothing."""
    listed = folder / "tomograms.json"
    if not listed.exists():
        return None
    entries = {entry.path: entry for entry in read_tomogram_list(listed)}
    return entries.get(path.resolve())


def write_tomograms(folder: Path, tomograms: Iterable[Tomogram]) -> None:
    """Write the open tomograms into the list; others in it stay.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    path = folder / "tomograms.json"
    try:
        entries = {e.path: e for e in read_tomogram_list(path)} if path.exists() else {}
    except FormatError:
        entries = {}
    entries |= {t.path.resolve(): TomogramEntry.of(t) for t in tomograms}
    write_tomogram_list(path, list(entries.values()))


def star_path(folder: Path, name: str) -> Path:
    """Return where the picks of a tomogram are kept."""
    return folder / f"{name}.star"


def read_saved_picks(folder: Path, tomogram: Tomogram) -> Picks | None:
    """Read the picks kept of a tomogram; None if there are none.

    Raises
    ------
    FormatError
        If the file is broken; it was renamed first, so that nothing overwrites it.
    """
    path = star_path(folder, tomogram.name)
    if not path.exists():
        return None
    try:
        return read_picks(path)
    except FormatError as error:
        aside = path.with_name(f"{path.stem}.unreadable-{time.time():.0f}.star")
        path.rename(aside)
        raise FormatError(
            f"the saved picks of {tomogram.name} cannot be read and were kept as "
            f"{aside.name}: {error}"
        ) from error


def save_picks(folder: Path, tomogram: Tomogram, picks: Picks) -> None:
    """Keep the picks of a tomogram; of none there is no file.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    path = star_path(folder, tomogram.name)
    if len(picks):
        write_picks(path, picks, tomogram.voxel_size)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"cannot remove {path}: {error.strerror}") from error
