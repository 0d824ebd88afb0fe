"""Tomograms worked on by one worker, and what it finds taken into the session.

The worker is `ectkd sweep` or `ectkd classify` with a folder of results in the project:
what it says of each tomogram is read from the folder's manifest, so that the results of
an earlier day are there again, and a second start does only what is missing.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_ectkd.errors import EctkdError, VoxelSizeError
from napari_ectkd.events import Progress
from napari_ectkd.gui.batch_inputs import bare, is_same, picks_of
from napari_ectkd.io.atomic import atomic_path, make_folder
from napari_ectkd.io.formats import tomogram_name
from napari_ectkd.io.star import read_picks, write_picks
from napari_ectkd.io.tomogram_list import TomogramEntry, write_tomogram_list
from napari_ectkd.models.checkpoint import read_info
from napari_ectkd.prediction.manifest import MANIFEST, ManifestEntry, read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.events import Event
    from napari_ectkd.gui.jobs import Job
    from napari_ectkd.gui.session import Session

RESULTS = "results"
"""The folder in a project whose folders hold the results of batches."""
LEAST_CONFIDENCE = 0.2
"""Of the hits of a sweep that are kept: the slider hides those that are unsure."""
_TAKEN = "taken.json"
"""Which results a session took: what was deleted since is not to come back."""


@dataclass(frozen=True)
class BatchOrder:
    """What is to be done with which tomograms.

    Attributes
    ----------
    entries
        The tomograms.
    is_sweep
        Whether every place is looked at, or the picks.
    model
        Run folder or checkpoint.
    device
        As `--device`.
    out
        Folder of the results.
    keeps_scores
        Whether a sweep writes what the model says of every place.
    is_averaged
        Whether picks are looked at in all rotations that keep the missing wedge.
    mask
        Of a single tomogram: a sweep finds nothing where it is 0.
    """

    entries: Sequence[TomogramEntry]
    is_sweep: bool
    model: Path
    device: str
    out: Path
    keeps_scores: bool = False
    is_averaged: bool = False
    mask: Path | None = None

    def arguments(self) -> list[str]:
        """Return the arguments of the command that does it."""
        arguments = ["sweep" if self.is_sweep else "classify"]
        arguments += [str(self.out / "tomograms.json")]
        # All predictions are asked for: the slider alone hides those that are unsure.
        least = LEAST_CONFIDENCE if self.is_sweep else 0
        if not self.is_sweep:
            arguments += ["--picks", str(self.out / "picks")]
            arguments += ["--average-rotations"] * self.is_averaged
        else:
            if self.keeps_scores:
                arguments += ["--scores", str(self.out / "scores")]
            if self.mask is not None:
                arguments += ["--mask", str(self.mask.absolute())]
        arguments += ["--min-confidence", str(least), "--model", str(self.model)]
        return [*arguments, "--out", str(self.out), "--device", self.device]


class TomogramBatch(QObject):
    """The work on some tomograms: how each stands, and its results in the session.

    `changed` comes whenever a tomogram's state may be another one, `said` with a line
    and whether it is an error, `done` with the worker's result. Several panels of a
    window share the job: only the batch that started it takes what it finds.

    Parameters
    ----------
    session
        Its open tomograms get the results.
    job
        Who works.
    """

    changed = Signal()
    said = Signal(str, bool)
    done = Signal(dict)

    def __init__(self, session: Session, job: Job) -> None:
        super().__init__()
        self._session, self._job = session, job
        self.folder: Path | None = None
        self.rows: list[ManifestEntry] = []
        self.at_work = ""
        self.share = 0.0
        self.seconds_left: float | None = None
        self.n_new = 0
        """How many hits lay on no pick, of those that were taken since the start."""
        self.is_sweep = False
        """Whether every place is looked at, or picks are classified."""
        self._model: Path | None = None
        self._taken: dict[str, str] = {}
        self._seen: tuple[int, int] | None = None
        self._has_set_overlay = False
        self._is_ours = False
        self._room: tempfile.TemporaryDirectory | None = None
        job.progressed.connect(self._on_event)
        job.done.connect(self._on_done)
        job.ended.connect(self._on_ended)

    @property
    def is_active(self) -> bool:
        """Whether the worker is at what was started here."""
        return self._is_ours

    def start(self, order: BatchOrder) -> None:
        """Start the worker.

        Raises
        ------
        EctkdError
            If its inputs cannot be read or written.
        """
        make_folder(order.out)
        write_tomogram_list(order.out / "tomograms.json", list(order.entries))
        if not order.is_sweep:
            for entry in order.entries:
                self._write_picks(entry, order.out / "picks")
        self._room = tempfile.TemporaryDirectory(prefix="ectkd-batch-")
        room = Path(self._room.name)
        self.folder, self.is_sweep = order.out, order.is_sweep
        self._model = order.model
        self._seen = _signature(order.out)  # of an earlier start: does not count now
        self._taken, self._has_set_overlay, self.n_new = {}, False, 0
        self._write_taken()
        self._stand_still()
        self.rows = [
            ManifestEntry(name=(n := tomogram_name(e.path)), path=e.path, star=n)
            for e in order.entries
        ]
        self._job.start([*order.arguments(), "--job", str(room)], room)
        self._is_ours = True
        self.changed.emit()

    def look_at(self, folder: Path | None) -> None:
        """Show what an earlier start left in a folder; nothing if there is none."""
        if self.is_active or folder == self.folder:
            return
        self.folder, self.rows, self._seen = folder, [], None
        self._taken, self._has_set_overlay = {}, False
        self._stand_still()
        if folder is not None:
            self._taken = _read_taken(folder)
            self._read()
        self.changed.emit()

    def open(self, name: str) -> None:
        """Show a tomogram, and what was found in it unless that was taken before."""
        [row] = [row for row in self.rows if row.name == name]
        try:
            self._session.open_tomogram(row.path)
        except VoxelSizeError as error:
            self.said.emit(f"{error}. Open it in step 1, which asks.", True)
        except EctkdError as error:
            self.said.emit(str(error), True)
        else:
            self._session.set_current(name)
            self._take_what_is_open()

    def _write_picks(self, entry: TomogramEntry, folder: Path) -> None:
        """Write what is to be classified, unless it was written before.

        A file that stays as it was tells the worker that there is nothing new to do.
        """
        path = folder / f"{tomogram_name(entry.path)}.star"
        picks = bare(picks_of(entry, self._session))
        if path.exists() and is_same(read_picks(path), picks):
            return
        write_picks(path, picks, entry.voxel_size or entry.open().voxel_size)

    def _on_event(self, event: Event) -> None:
        if not self._is_ours:
            return
        if isinstance(event, Progress):
            if event.of:
                self.at_work = event.of
                self.share = event.done / max(event.total, 1)
            else:
                self._stand_still()
                self.seconds_left = event.seconds_left
        self._read()
        self.changed.emit()

    def _on_done(self, result: dict[str, Any]) -> None:
        if self._is_ours:
            self._stand_still()
            self._read()
            self.done.emit(result)

    def _on_ended(self) -> None:
        if not self._is_ours and self.folder is not None:
            self._taken = _read_taken(self.folder)
            self._read()  # another panel may have worked into the same folder
        self._is_ours = False
        if self._room is not None:
            self._room.cleanup()
            self._room = None
        self._stand_still()
        self.changed.emit()

    def _stand_still(self) -> None:
        self.at_work, self.share, self.seconds_left = "", 0.0, None

    def _read(self) -> None:
        """Read the manifest if it is another; take what is new of open tomograms."""
        found = _signature(self.folder)
        if found is None or found == self._seen:
            return
        self._seen = found
        try:
            manifest = read_manifest(self.folder)
        except EctkdError as error:
            self.said.emit(str(error), True)
            return
        if manifest is None:
            return
        self.rows = manifest.tomograms
        self.is_sweep, self._model = manifest.kind == "sweep", manifest.model
        if self.is_active:
            self._take_what_is_open()

    def _take_what_is_open(self) -> None:
        for row in self.rows:
            opened = self._session.tomograms.get(row.name)
            is_open = opened is not None and opened.path.resolve() == row.path
            mark = f"{row.key} {row.seconds}"
            if row.state != "done" or not is_open or self._taken.get(row.name) == mark:
                continue
            try:
                self._take(row)
                self._taken[row.name] = mark
                self._write_taken()
            except EctkdError as error:
                self.said.emit(str(error), True)

    def _take(self, row: ManifestEntry) -> None:
        """Put what was found in an open tomogram into the session; labels stay."""
        found = read_picks(self.folder / row.star)
        known = self._session.overlay.diameters
        # A project that took some of it on an earlier day holds what was chosen since.
        if not self._has_set_overlay and not (self._taken and known):
            info = read_info(self._model)
            diameters = {**known, **info.diameters}
            self._session.set_overlay(
                min_confidence=info.min_confidence, diameters=diameters
            )
        self._has_set_overlay = True
        if self.is_sweep:
            self.n_new += self._session.book.take_swept(row.name, found)
        else:
            self._session.book.merge_predictions(found)

    def _write_taken(self) -> None:
        with atomic_path(self.folder / _TAKEN) as temporary:
            temporary.write_text(json.dumps(self._taken, indent=1) + "\n")


def n_found(rows: Sequence[ManifestEntry]) -> int:
    """Return how many picks of some tomograms have a prediction."""
    counts = [row.counts for row in rows if row.state == "done"]
    return sum(n for c in counts for name, n in c.items() if name != "no prediction")


def _signature(folder: Path | None) -> tuple[int, int] | None:
    """Return what tells one manifest of a folder from the next."""
    if folder is None:
        return None
    try:
        stat = (folder / MANIFEST).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


def _read_taken(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / _TAKEN).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
