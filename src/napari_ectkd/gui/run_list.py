"""A choice among the runs of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.training.run_list import find_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.training.run_list import FoundRun


class RunChooser(QWidget):
    """One run that has a model, of the project or from anywhere."""

    valueChanged = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._chooser = ChoiceEdit([])
        self._chooser.setToolTip("Runs of this project that have a model")
        self._chooser.setNothing("none yet: train or distill one")
        self._chooser.valueChanged.connect(self.valueChanged)
        self._others: list[Path] = []
        self._found: list[FoundRun] = []
        browse = QPushButton("Browse…")
        browse.setToolTip("Choose a run folder that is somewhere else")
        browse.clicked.connect(self._browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._chooser, 1)
        layout.addWidget(browse)

    def offer(self, runs: Sequence[FoundRun]) -> None:
        """Offer these runs, besides those that were browsed for.

        One that was not there before and comes first is chosen: it was just made.
        """
        known = {run.path for run in self._found}
        self._found = [run for run in runs if run.info is not None]
        others = [r for path in self._others if (r := find_run(path)) is not None]
        self._chooser.setChoices(
            [(run.path, run.title) for run in [*others, *self._found]]
        )
        if self._found and self._found[0].path not in known:
            self._chooser.setValue(self._found[0].path)

    def value(self) -> Path | None:
        """Return the chosen run."""
        return self._chooser.value()

    def setValue(self, path: Path) -> None:
        """Choose a run; one from elsewhere is added."""
        if path not in [run.path for run in self._found]:
            self._others.insert(0, path)
            self.offer(self._found)
        self._chooser.setValue(path)

    def _browse(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Choose a run folder"):
            self.setValue(Path(path))
