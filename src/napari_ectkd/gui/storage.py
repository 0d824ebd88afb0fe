"""The project folder: what a session keeps of picks, classes and tomograms.

`<tomogram>.star` holds the picks of a tomogram, `classes.json` the classes with their
colors and the particle diameter, `tomograms.json` what was opened, `runs/` the runs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_ectkd.errors import FormatError, WriteError
from napari_ectkd.io.atomic import atomic_path, cannot_write, make_folder
from napari_ectkd.io.formats import tomogram_name
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.io.tomogram_list import (
    TomogramEntry,
    read_tomogram_list,
    write_tomogram_list,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram

FOLDER = "ectkd"


@dataclass
class Classes:
    """The classes of a project: names in order, colors, and how their picks are shown.

    `diameter` is that of a pick of no class, Å, `diameters` those of classes with one,
    `densities` the files of what classes look like. Predictions below `min_confidence`,
    or with a lower score than the cut of their class, are shown as unknown.
    """

    names: list[str] = field(default_factory=list)
    colors: dict[str, str] = field(default_factory=dict)
    diameter: float = 200.0
    diameters: dict[str, float] = field(default_factory=dict)
    densities: dict[str, Path] = field(default_factory=dict)
    min_confidence: float = 0.0
    cuts: dict[str, float] = field(default_factory=dict)


class ProjectFolder:
    """Reads and writes the files of a project; holds no state but its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, tomogram: Path) -> ProjectFolder:
        """Return the folder `ectkd` beside a tomogram, or one of the user's own.

        A tomogram may lie where nobody can write (an archive, a facility's disk).
        """
        beside, own = _places(tomogram)
        try:
            return cls(make_folder(beside))
        except WriteError:
            return cls(own)

    @classmethod
    def find(cls, tomogram: Path) -> ProjectFolder | None:
        """Return the project folder of a tomogram if there is one; make none."""
        beside, own = _places(tomogram)
        found = [folder for folder in (beside, own) if folder.is_dir()]
        if len(found) == 2 and not os.access(beside, os.W_OK):
            return cls(own)
        return cls(found[0]) if found else None

    @staticmethod
    def put_aside(path: Path) -> Path:
        """Give a broken file a name that is not taken; return its new path.

        Raises
        ------
        WriteError
            If it cannot be renamed.
        """
        names = (f"{path.name}.broken{n or ''}" for n in itertools.count())
        aside = next(a for name in names if not (a := path.with_name(name)).exists())
        try:
            return path.rename(aside)
        except OSError as error:
            raise cannot_write(aside, error) from error

    @property
    def runs(self) -> Path:
        """Where the runs are."""
        return self.path / "runs"

    @property
    def classes_path(self) -> Path:
        """Classes, colors and diameter."""
        return self.path / "classes.json"

    @property
    def tomograms_path(self) -> Path:
        """The list of tomograms, as `--tomograms` takes it."""
        return self.path / "tomograms.json"

    def picks_path(self, name: str) -> Path:
        """Return the file with the picks of a tomogram."""
        return self.path / f"{name}.star"

    def save_picks(self, picks: Picks, tomogram: Tomogram) -> None:
        """Write the picks of a tomogram, whole or not at all."""
        write_picks(self.picks_path(tomogram.name), picks, tomogram.voxel_size)

    def load_picks(self, tomogram: Tomogram) -> Picks | None:
        """Return the picks that were saved for a tomogram, if there are any.

        Raises
        ------
        FormatError
            If the file is broken.
        """
        path = self.picks_path(tomogram.name)
        return read_picks(path) if path.exists() else None

    def save_classes(self, classes: Classes) -> None:
        """Write classes, and how they are shown."""
        text = json.dumps(vars(classes), indent=1, default=str) + "\n"
        with atomic_path(self.classes_path) as temporary:
            temporary.write_text(text)

    def load_classes(self) -> Classes:
        """Return the classes of the project; none if it is new.

        Raises
        ------
        FormatError
            If the file is broken.
        """
        path = self.classes_path
        if not path.exists():
            return Classes()
        try:
            facts: dict[str, Any] = json.loads(path.read_text())
            return Classes(
                [str(name) for name in facts["names"]],
                {str(k): str(v) for k, v in facts["colors"].items()},
                float(facts["diameter"]),
                {str(k): float(v) for k, v in facts.get("diameters", {}).items()},
                {str(k): Path(v) for k, v in facts.get("densities", {}).items()},
                float(facts.get("min_confidence", 0.0)),
                {str(k): float(v) for k, v in facts.get("cuts", {}).items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path}: not a list of classes ({error})") from error

    def save_tomograms(self, tomograms: Iterable[Tomogram]) -> None:
        """Write what is open, beside what was open before.

        A project that was copied or moved lists tomograms where they were: one of a
        name that is open now is the same, at its new place.
        """
        tomograms = list(tomograms)
        names = {tomogram_name(tomogram.path) for tomogram in tomograms}
        before = self.load_tomograms()
        entries = {e.path: e for e in before if tomogram_name(e.path) not in names}
        entries |= {e.path: e for e in map(TomogramEntry.of, tomograms)}
        write_tomogram_list(self.tomograms_path, list(entries.values()))

    def save_labeled(self, picks: Picks, tomograms: Collection[Tomogram]) -> Path:
        """Write the labeled ones of all picks, and their tomograms; return the picks.

        Raises
        ------
        WriteError
            If they cannot be written.
        """
        path = self.path / "labels" / "labeled-picks.star"
        sizes = {tomogram.name: tomogram.voxel_size for tomogram in tomograms}
        write_picks(path, picks[picks.is_labeled], sizes)
        self.save_tomograms(tomograms)
        return path

    def load_tomograms(self) -> list[TomogramEntry]:
        """Return what was open before, with what a person said of it."""
        if not self.tomograms_path.exists():
            return []
        return read_tomogram_list(self.tomograms_path)


def _places(tomogram: Path) -> tuple[Path, Path]:
    """Return the folder beside a tomogram, and the user's own where that is closed."""
    parent = tomogram.resolve().parent
    number = hashlib.sha256(str(parent).encode()).hexdigest()[:8]
    own = platformdirs.user_data_path("napari-ectkd") / f"{parent.name}-{number}"
    return parent / FOLDER, own
