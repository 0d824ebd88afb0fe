"""Several tomograms: from folders, files, patterns of names, or lists.

The list in JSON is what a window keeps of the tomograms that it opened: with each its
voxel size, contrast sign and tilt range, as a person may have corrected them.
"""

from __future__ import annotations

from glob import glob, has_magic
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

    def open(self) -> Tomogram:
        """Return the opened tomogram.

        Raises
        ------
        EctkdError
            As `open_tomogram`.
        """
        return open_tomogram(
            self.path,
            voxel_size=self.voxel_size,
            is_inverted=self.is_inverted,
            tilt_range=self.tilt_range,
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
        As `find_tomograms`.
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
        for entry in find_tomograms([source]):
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


def find_tomograms(sources: Sequence[Path]) -> list[TomogramEntry]:
    """Return the tomograms that a user named, in order, each file once.

    Parameters
    ----------
    sources
        Volume files, folders of them, patterns (`tomos/*.mrc`, also `**`), lists of
        paths (`.txt`, one a line, relative to the list) or `tomograms.json`.

    Raises
    ------
    FileMissingError
        If there is no such file, or none that a pattern fits.
    FormatError
        If a list is broken.
    """
    found: dict[Path, TomogramEntry] = {}
    for source in sources:
        for entry in _entries(source):
            found.setdefault(entry.path.resolve(), entry)
    return list(found.values())


def find_files(sources: Sequence[Path], ending: str) -> list[Path]:
    """Return the files that a user named: themselves, by pattern, or by folder.

    Raises
    ------
    FileMissingError
        If there is none.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            found += sorted(source.glob(f"*{ending}"))
        elif has_magic(str(source)) and not source.exists():
            found += sorted(map(Path, glob(str(source), recursive=True)))
        else:
            found.append(source)
    if not found:
        raise FileMissingError(
            f"{', '.join(map(str, sources)) or 'nothing named'}: no {ending} file there"
        )
    return found


def _entries(source: Path) -> list[TomogramEntry]:
    if source.is_dir():
        return [
            TomogramEntry(path=file)
            for file in sorted(source.iterdir())
            if file.name.lower().endswith(VOLUME_ENDINGS)
        ]
    if not source.exists():
        fitting = sorted(map(Path, glob(str(source), recursive=True)))
        if not fitting:
            what = (
                "no file fits" if has_magic(str(source)) else "no such file or folder"
            )
            raise FileMissingError(f"{source}: {what}")
        return [TomogramEntry(path=file) for file in fitting if file.is_file()]
    if source.suffix == ".json":
        return read_tomogram_list(source)
    if source.suffix == ".txt":
        lines = source.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.strip() for line in lines if line.strip()]
        return [
            TomogramEntry(path=source.parent / line)
            for line in named
            if not line.startswith("#")
        ]
    return [TomogramEntry(path=source)]
