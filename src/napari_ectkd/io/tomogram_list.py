"""Several tomograms by name: from folders, from files, or from a `tomograms.json`.

The list in JSON is what a window keeps of the tomograms that it opened: with each its
voxel size, contrast sign and tilt range, as a person may have corrected them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from napari_ectkd.errors import DataError, FileMissingError, FormatError
from napari_ectkd.io.atomic import atomic_path
from napari_ectkd.io.formats import VOLUME_ENDINGS, tomogram_name
from napari_ectkd.io.tomogram import Tomogram, open_tomogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class TomogramEntry(BaseModel, frozen=True, extra="forbid"):
    """A tomogram's file and what a person may have said of it."""

    path: Path
    voxel_size: float | None = Field(None, gt=0, description="Å; None: the header's")
    is_inverted: bool | None = Field(None, description="protein dark; None: guessed")
    tilt_range: tuple[float, float] | None = Field(None, description="degrees")

    @classmethod
    def of(cls, tomogram: Tomogram) -> TomogramEntry:
        """Return the entry that opens as this tomogram."""
        return cls(
            path=tomogram.path.resolve(),
            voxel_size=tomogram.voxel_size,
            is_inverted=None if tomogram.contrast_is_guessed else tomogram.is_inverted,
            tilt_range=tomogram.tilt_range,
        )


_ENTRIES = TypeAdapter(list[TomogramEntry])


def read_tomogram_list(path: Path) -> list[TomogramEntry]:
    """Read a `tomograms.json`.

    Raises
    ------
    FormatError
        If it is broken.
    """
    try:
        return _ENTRIES.validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        what = " ".join(str(error).split())
        raise FormatError(f"{path}: not a list of tomograms ({what})") from error


def write_tomogram_list(path: Path, entries: Sequence[TomogramEntry]) -> None:
    """Write a `tomograms.json`.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(_ENTRIES.dump_json(list(entries), indent=1))


def open_tomograms(
    sources: Sequence[Path],
    names: Iterable[str],
    *,
    voxel_size: float | None = None,
    is_inverted: bool | None = None,
    tilt_range: tuple[float, float] | None = None,
) -> dict[str, Tomogram]:
    """Open the tomograms of the given names.

    Parameters
    ----------
    sources
        Folders, volume files, or `tomograms.json` lists.
    names
        Which tomograms; an empty name is the only one there is.
    voxel_size, is_inverted, tilt_range
        As `open_tomogram`, where the list does not say.

    Raises
    ------
    DataError
        If a name fits no file, or more than one.
    """
    entries: dict[str, list[TomogramEntry]] = {}
    for source in sources:
        for entry in _entries(source):
            entries.setdefault(tomogram_name(entry.path), []).append(entry)
    opened = {}
    for name in sorted(set(names)):
        found = entries.get(name, entries.get(tomogram_name(name), []))
        if name == "" and len(entries) == 1:
            found = next(iter(entries.values()))
        if len(found) != 1:
            there = ", ".join(sorted(entries)[:8]) or "none"
            raise DataError(
                f"{len(found) or 'no'} files for tomogram {name!r}; found {there}: say "
                "where it is (--tomograms)"
            )
        entry = found[0]
        opened[name] = open_tomogram(
            entry.path,
            voxel_size=entry.voxel_size or voxel_size,
            is_inverted=is_inverted if entry.is_inverted is None else entry.is_inverted,
            tilt_range=entry.tilt_range or tilt_range,
        )
    return opened


def _entries(source: Path) -> list[TomogramEntry]:
    if source.is_dir():
        return [
            TomogramEntry(path=file)
            for file in sorted(source.iterdir())
            if file.name.lower().endswith(VOLUME_ENDINGS)
        ]
    if not source.exists():
        raise FileMissingError(f"{source}: no such file or folder")
    if source.suffix == ".json":
        return read_tomogram_list(source)
    return [TomogramEntry(path=source)]
