"""What a session keeps on the disk, written soon after each change."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.storage import Classes, ProjectFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_ectkd.io.picks import Picks
    from napari_ectkd.io.tomogram import Tomogram

SAVE_MS = 400
"""Milliseconds after a change until it is on the disk."""
RETRY_MS = 5000
_LOOK_MS = 20
"""How often to look whether the thread that writes picks is done."""


class Autosave(QObject):
    """Writes picks, classes and facts half a second after a change, and retries.

    Picks take seconds to write where they are many: a thread does it, which is given
    nothing but picks and tomograms, both immutable. All else is small and written here.
    A change counts as saved once its file is renamed; what changed again in the
    meantime is still waiting.

    Each tomogram has its picks in the project folder beside it, so that they are found
    again whatever it is opened together with. Runs go to the folder of the first.

    Parameters
    ----------
    tomograms
        Those that are open, by name; the session changes it.
    classes
        What returns the classes of now.
    """

    said = Signal(str, bool)
    saved = Signal(str, bool)

    def __init__(
        self, tomograms: dict[str, Tomogram], classes: Callable[[], Classes]
    ) -> None:
        super().__init__()
        self.project: ProjectFolder | None = None
        self._tomograms, self._classes = tomograms, classes
        # By path: a tomogram may be closed before its picks can be written, and another
        # of the same name be opened.
        self._homes: dict[Path, ProjectFolder] = {}
        self._unsaved: dict[Path, tuple[Picks, Tomogram]] = {}
        self._thread = ThreadPoolExecutor(1, "autosave")
        self._writing: Future[None] | None = None
        self._handed: dict[Path, tuple[Picks, Tomogram]] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._start)
        self._look = QTimer(self)
        self._look.setInterval(_LOOK_MS)
        self._look.timeout.connect(self._look_after)

    def take_in(self, tomogram: Tomogram) -> tuple[Picks | None, Classes]:
        """Return what was saved of a tomogram: its picks, and the classes beside it.

        A broken file is put aside under another name, and said; never overwritten.
        """
        home = ProjectFolder.beside(tomogram.path)
        self._homes[_key(tomogram)] = home
        if self.project is None:
            self.project = home
        if waiting := self._unsaved.get(_key(tomogram)):
            picks = waiting[0]
        else:
            picks = self._read(
                lambda: home.load_picks(tomogram), home.picks_path(tomogram.name)
            )
        classes = self._read(home.load_classes, home.classes_path) or Classes()
        self._read(home.load_tomograms, home.tomograms_path)
        self.touch()
        return picks, classes

    def known_facts(self, path: Path) -> dict[str, Any]:
        """Return what was said of a tomogram when it was last open."""
        home = ProjectFolder.find(path)
        if home is None:
            return {}
        entries = self._read(home.load_tomograms, home.tomograms_path) or []
        for entry in entries:
            if entry.path == path.resolve():
                return entry.model_dump()
        return {}

    def changed(self, tomogram: Tomogram, picks: Picks) -> None:
        """Save the picks of a tomogram, and all else, soon."""
        self._unsaved[_key(tomogram)] = picks, tomogram
        self.touch()

    def touch(self) -> None:
        """Save classes and facts soon."""
        self._timer.start(SAVE_MS)

    def flush(self) -> None:
        """Write what is waiting to be written, at once."""
        if self._timer.isActive() or self._writing is not None:
            self.save()

    def save(self) -> bool:
        """Write what changed before returning; return whether it worked.

        Else it is tried again.
        """
        self._timer.stop()
        if self.project is None:
            return True
        with suppress(EctkdError):  # what failed is tried again here
            self._finish()
        try:
            self._hand_over()
            self._finish()
        except EctkdError as error:
            return self._failed(error)
        return self._say_saved()

    def _start(self) -> None:
        """Begin to write what changed; with what is being written, wait."""
        if self._writing is not None:
            self._timer.start(SAVE_MS)
        elif self.project is not None:
            try:
                self._hand_over()
            except EctkdError as error:
                self._failed(error)

    def _hand_over(self) -> None:
        """Write the small files, and give the picks to the thread."""
        self._save_facts()
        self._handed = dict(self._unsaved)
        homes = dict(self._homes)
        self._writing = self._thread.submit(_write_all, self._handed, homes)
        self._look.start()

    def _look_after(self) -> None:
        """Say how the thread fared, once it is done."""
        if self._writing is None or not self._writing.done():
            return
        try:
            self._finish()
        except EctkdError as error:
            self._failed(error)
        else:
            if not self._unsaved:
                self._say_saved()

    def _finish(self) -> None:
        """Wait for the thread; what it wrote and is still so is saved.

        Raises
        ------
        WriteError
            If it could not write.
        """
        self._look.stop()
        writing, self._writing = self._writing, None
        if writing is None:
            return
        writing.result()
        for path, written in self._handed.items():
            if self._unsaved.get(path) is written:
                del self._unsaved[path]

    def _save_facts(self) -> None:
        """Write the classes, and what is said of the tomograms."""
        assert self.project is not None
        open_now = list(self._tomograms.values())
        homes = [self._homes[_key(tomogram)] for tomogram in open_now]
        for folder in {home.path: home for home in [*homes, self.project]}.values():
            here = [
                tomogram
                for tomogram, home in zip(open_now, homes, strict=True)
                if home.path == folder.path
            ]
            folder.save_classes(self._classes())
            is_first = folder.path == self.project.path
            folder.save_tomograms(open_now if is_first else here)

    def _failed(self, error: EctkdError) -> bool:
        self.saved.emit(f"NOT saved: {error}", True)
        self._timer.start(RETRY_MS)
        return False

    def _say_saved(self) -> bool:
        assert self.project is not None
        homes = dict.fromkeys(str(home.path) for home in self._homes.values())
        places = " and ".join(homes) or str(self.project.path)
        self.saved.emit(f"Saved in {places}", False)
        return True

    def _read(self, read: Callable[[], Any], path: Path) -> Any:
        """Return what a file of ours holds; nothing if it was broken."""
        try:
            return read()
        except EctkdError as error:
            try:
                aside = ProjectFolder.put_aside(path)
            except EctkdError as moving:
                self.said.emit(f"{error}; {moving}", True)
            else:
                self.said.emit(f"{error}; it was kept as {aside.name}", True)
            return None


def _key(tomogram: Tomogram) -> Path:
    return tomogram.path.resolve()


def _write_all(
    picks: dict[Path, tuple[Picks, Tomogram]], homes: dict[Path, ProjectFolder]
) -> None:
    """Write the picks of tomograms, each in the folder beside it."""
    for path, (here, tomogram) in picks.items():
        homes[path].save_picks(here, tomogram)
