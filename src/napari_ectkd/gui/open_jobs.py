"""The jobs of one napari window, and what becomes of them when it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary, WeakSet

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QMainWindow, QMessageBox

from napari_ectkd.gui.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from qtpy.QtWidgets import QWidget

Answer = Literal["go on", "stop", "stay open"]

STOP_SECONDS = 3.0
"""How long a job may take to stop by itself before a closing window kills it."""

_OF_VIEWER: WeakKeyDictionary[ViewerModel, Jobs] = WeakKeyDictionary()


class Jobs(QObject):
    """The jobs of one viewer by title; they outlive the panels that show them.

    Attributes
    ----------
    question
        Asked with the titles of the unfinished runs when the window closes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.question: Callable[[list[str], QWidget], Answer] = ask
        self._jobs: dict[str, Job] = {}
        self._can_go_on: set[str] = set()
        # Weak: a window holds its viewer, which holds the place of these jobs.
        self._windows: WeakSet[QMainWindow] = WeakSet()
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.stop_all)

    @classmethod
    def of(cls, viewer: ViewerModel) -> Jobs:
        """Return the jobs of a viewer, the same for all of its panels."""
        # Plugins are given a proxy, a new one for each panel.
        viewer = getattr(viewer, "__wrapped__", viewer)
        if viewer not in _OF_VIEWER:
            _OF_VIEWER[viewer] = cls()
        return _OF_VIEWER[viewer]

    def job(self, title: str, *, can_go_on: bool = False) -> Job:
        """Return the job of a title (`Training`), made when it is first asked for.

        One that can go on makes a run, which is worth more than the window.
        """
        if title not in self._jobs:
            self._jobs[title] = Job(self)
            if can_go_on:
                self._can_go_on.add(title)
        return self._jobs[title]

    def active(self) -> list[str]:
        """Return the titles of the jobs that have not ended."""
        return [title for title, job in self._jobs.items() if job.is_active]

    def watch(self, widget: QWidget) -> None:
        """Look out for the closing of the main window that a widget is in."""
        window = widget
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        if window is not None and window not in self._windows:
            self._windows.add(window)
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Ask about unfinished runs before the window closes."""
        if event.type() != QEvent.Type.Close or not self.active():
            return False
        runs = [title for title in self.active() if title in self._can_go_on]
        answer = self.question(runs, watched) if runs else "stop"
        if answer == "stay open":
            event.ignore()
            return True
        if answer == "go on":
            for title in runs:
                self._jobs[title].detach()
        self.stop_all()
        return False

    def stop_all(self) -> None:
        """Stop the jobs that were not left to themselves."""
        jobs = [self._jobs[title] for title in self.active()]
        for job in jobs:
            job.cancel()  # all at once, then each gets its time
        for job in jobs:
            job.stop(STOP_SECONDS)


def ask(titles: list[str], window: QWidget) -> Answer:
    """Ask whether unfinished runs go on without the window."""
    box = QMessageBox(window)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("A run is not finished")
    box.setText(f"{' and '.join(titles)} is still at work.")
    box.setInformativeText(
        "It can go on without napari: choose it under Earlier runs when you are back. "
        "Stopped, it can be resumed from its last epoch."
    )
    go_on = box.addButton("Let it go on", QMessageBox.ButtonRole.AcceptRole)
    stop = box.addButton("Stop it", QMessageBox.ButtonRole.DestructiveRole)
    stay = box.addButton("Don't close", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(go_on)
    box.setEscapeButton(stay)
    box.exec()
    clicked = box.clickedButton()
    if clicked is stop:
        return "stop"
    return "go on" if clicked is go_on else "stay open"
