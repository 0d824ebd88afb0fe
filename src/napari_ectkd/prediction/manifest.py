"""What became of each of many tomograms, on disk, so that a second start knows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from napari_ectkd.errors import FormatError
from napari_ectkd.io.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence

MANIFEST, SUMMARY, JOINT = "manifest.json", "summary.csv", "all.star"


class ManifestEntry(BaseModel, frozen=True, extra="forbid"):
    """One tomogram, and how its work stands."""

    name: str
    path: Path
    state: Literal["waiting", "done", "failed"] = "waiting"
    n: int | None = Field(None, description="picks")
    counts: dict[str, int] = Field(default_factory=dict, description="by prediction")
    seconds: float | None = None
    voxel_size: float | None = Field(None, description="Å")
    error: str = ""
    star: str = Field(description="file of its picks, in the manifest's folder")
    scores: Path | None = Field(None, description="OME-Zarr of all positions, if kept")
    key: str = Field("", description="digest of all that the result depends on")


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """All tomograms of a folder that one model has worked on in one way, in order."""

    version: int = 1
    kind: Literal["sweep", "classify"]
    model: Path
    weights: str = Field("", description="digest of the model's checkpoint")
    settings: dict[str, Any] = Field(description="that the results depend on")
    tomograms: list[ManifestEntry]

    def with_entry(self, entry: ManifestEntry) -> Manifest:
        """Return a manifest in which an entry took the place of the one it renews."""
        entries = [entry if e.name == entry.name else e for e in self.tomograms]
        return self.model_copy(update={"tomograms": entries})

    def is_same_work(self, other: Manifest) -> bool:
        """Return whether another's results are of the same model and settings."""
        return (self.kind, self.weights) == (
            other.kind,
            other.weights,
        ) and self.settings == other.settings

    def write(self, folder: Path) -> None:
        """Write it into its folder, whole or not at all.

        Raises
        ------
        WriteError
            If it cannot be written.
        """
        with atomic_path(folder / MANIFEST) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest in a folder, if there is one.

    Raises
    ------
    FormatError
        If it is broken.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise FormatError(
            f"{path}: not a list of finished tomograms that this version can read; "
            "name another folder (--out), or remove it to do all again"
        ) from error


def write_summary(path: Path, entries: Sequence[ManifestEntry]) -> None:
    """Write a table of tomograms with their numbers of picks, as CSV.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    classes = sorted({name for entry in entries for name in entry.counts})
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["name", "path", "state", "n", *classes, "seconds", "error"])
        for entry in entries:
            counts = [entry.counts.get(name, 0) for name in classes]
            is_done = entry.state == "done"
            table.writerow(
                [
                    entry.name,
                    entry.path,
                    entry.state,
                    entry.n if is_done else "",
                    *(counts if is_done else [""] * len(classes)),
                    "" if entry.seconds is None else f"{entry.seconds:.1f}",
                    entry.error,
                ]
            )
