"""The runs of a project, and the choice of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.editors import ChoiceEdit
from napari_ectkd.models.checkpoint import CheckpointInfo, read_info
from napari_ectkd.runs import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.runs import State


@dataclass(frozen=True)
class FoundRun:
    """A run folder and what can be said of it without loading the model.

    Attributes
    ----------
    kind
        `train`, `distill`, or nothing where the folder does not say.
    info
        None before the first epoch is over.
    """

    path: Path
    kind: str
    state: State
    info: CheckpointInfo | None

    @property
    def title(self) -> str:
        """One line for people."""
        if self.info is None:
            return f"{self.path.name} ({self.state})"
        accuracy = self.info.metrics.get("val_accuracy")
        parts = [f"{self.path.name}: {self.info.model}"]
        parts += [] if accuracy is None else [f"{100 * accuracy:.0f} %"]
        parts += [] if self.state == "finished" else [self.state]
        return ", ".join(parts)


def find_run(path: Path) -> FoundRun | None:
    """Return what can be said of a folder or checkpoint file; None if it is no run."""
    try:
        info = read_info(path)
    except EctkdError:
        info = None
    try:
        kind = str(Run(path).config().get("kind", ""))
    except EctkdError:
        kind = ""
    if info is None and not kind:
        return None
    state = Run(path).state() if kind else "finished"
    return FoundRun(path, kind, state, info)


def find_runs(folder: Path | None) -> list[FoundRun]:
    """Return the runs in a folder, the newest first."""
    if folder is None or not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.is_dir()]
    paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [run for path in paths if (run := find_run(path)) is not None]


class RunChooser(QWidget):
    """One run that has a model, of the project or from anywhere."""

    valueChanged = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._chooser = ChoiceEdit([])
        self._chooser.setToolTip("Runs of this project that have a model")
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
