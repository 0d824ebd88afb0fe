"""What a session keeps on the disk, written soon after each change."""

from __future__ import annotations

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


class Autosave(QObject):
    """Writes picks, classes and facts half a second after a change, and retries.

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
        self._homes: dict[str, ProjectFolder] = {}
        # With the picks: their tomogram may be closed before they can be written.
        self._unsaved: dict[str, tuple[Picks, Tomogram]] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.save)

    def take_in(self, tomogram: Tomogram) -> tuple[Picks | None, Classes]:
        """Return what was saved of a tomogram: its picks, and the classes beside it.

        A broken file is put aside under another name, and said; never overwritten.
        """
        home = ProjectFolder.beside(tomogram.path)
        self._homes[tomogram.name] = home
        if self.project is None:
            self.project = home
        waiting = self._unsaved.get(tomogram.name)
        picks, classes = None, Classes()
        if waiting is not None and waiting[1].path == tomogram.path:
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
        self._unsaved[tomogram.name] = picks, tomogram
        self.touch()

    def touch(self) -> None:
        """Save classes and facts soon."""
        self._timer.start(SAVE_MS)

    def flush(self) -> None:
        """Write what is waiting to be written, at once."""
        if self._timer.isActive():
            self.save()

    def save(self) -> bool:
        """Write what changed; return whether it worked. Else it is tried again."""
        self._timer.stop()
        if self.project is None:
            return True
        try:
            for name, (picks, tomogram) in list(self._unsaved.items()):
                self._homes[name].save_picks(picks, tomogram)
                del self._unsaved[name]
            open_now = list(self._tomograms.values())
            folders = {self._homes[t.name].path: self._homes[t.name] for t in open_now}
            for folder in (folders | {self.project.path: self.project}).values():
                here = [t for t in open_now if self._homes[t.name].path == folder.path]
                folder.save_classes(self._classes())
                folder.save_tomograms(open_now if folder is self.project else here)
        except EctkdError as error:
            self.saved.emit(f"NOT saved: {error}", True)
            self._timer.start(RETRY_MS)
            return False
        self.saved.emit(f"Saved in {self.project.path}", False)
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
