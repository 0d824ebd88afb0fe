"""Which tomograms to work on: the one shown, all that are open, or files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.batch_inputs import known_entries
from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.storage import ProjectFolder
from napari_ectkd.gui.tomogram_batch import RESULTS
from napari_ectkd.gui.tomogram_form import FILES
from napari_ectkd.io.tomogram_list import find_tomograms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.gui.session import Session
    from napari_ectkd.io.tomogram_list import TomogramEntry

_THIS, _OPEN, _FILES = "this", "open", "files"


class TomogramChooser(QWidget):
    """Chooses tomograms, and for several the folder in the project for results."""

    valueChanged = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._paths: list[Path] = []
        self._home: Path | None = None
        self._proposed = ""
        self.scope = ChoiceEdit(
            [
                (_THIS, "this tomogram"),
                (_OPEN, "all open tomograms"),
                (_FILES, "files, open or not"),
            ]
        )
        self.files_button = QPushButton("Choose files…")
        self.folder_button = QPushButton("Choose a folder…")
        self.text = QLabel(wordWrap=True)
        self.name = QLineEdit()
        self._files, self._results = QWidget(), QWidget()
        self._build()

    @property
    def is_one(self) -> bool:
        """Whether only the tomogram that is shown was chosen."""
        return bool(self.scope.value() == _THIS)

    def problem(self) -> str:
        """Return why there is nothing to work on, or nothing."""
        if self.scope.value() == _FILES:
            if not self._paths:
                return "Choose files or a folder first"
        elif self._session.current is None:
            return "Open a tomogram first, or choose files"
        name = self.name.text().strip()
        if not self.is_one and (not name or Path(name).name != name):
            return "Give the results a folder name, without slashes"
        return ""

    def paths(self) -> list[Path]:
        """Return the files of the chosen tomograms."""
        if self.scope.value() == _FILES:
            return list(self._paths)
        session = self._session
        if self.is_one:
            return [session.current.path] if session.current else []
        return [tomogram.path for tomogram in session.tomograms.values()]

    def entries(self) -> list[TomogramEntry]:
        """Return the chosen tomograms, with what was said of them.

        Raises
        ------
        FormatError
            If a list of tomograms is broken.
        """
        return known_entries(self.paths(), self._session)

    def results_folder(self) -> Path | None:
        """Return where results go; nothing while no tomogram is chosen."""
        name = self.name.text().strip()
        if self.is_one and self._session.current is not None:
            name = f"{self._proposed}-{self._session.current.name}"
        home = self._session.folder
        if home is None:
            home = self._home
        return home / RESULTS / name if home and name else None

    def choose(self, sources: Sequence[Path]) -> None:
        """Choose files and folders of tomograms."""
        self.scope.setValue(_FILES)
        try:
            self._paths = [entry.path for entry in find_tomograms(sources)]
            if self._paths:
                self._home = ProjectFolder.beside(self._paths[0]).path
            n = len(self._paths)
            where = ", ".join(sorted({str(path.parent) for path in self._paths}))
            self.text.setText(f"{n} tomogram{'s' * (n != 1)} in {where}")
            if not n:
                self.text.setText("No MRC or TIFF file in this folder")
        except EctkdError as error:
            self._paths = []
            self.text.setText(str(error))
        self._on_changed()

    def propose(self, name: str) -> None:
        """Name the folder of results, unless the user has named it."""
        if self.name.text() in ("", self._proposed):
            self.name.setText(name)
        self._proposed = name

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.scope)
        files = QVBoxLayout(self._files)
        files.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        buttons.addWidget(self.files_button)
        buttons.addWidget(self.folder_button)
        files.addLayout(buttons)
        files.addWidget(self.text)
        layout.addWidget(self._files)
        results = QHBoxLayout(self._results)
        results.setContentsMargins(0, 0, 0, 0)
        results.addWidget(QLabel("Results in"))
        results.addWidget(self.name, 1)
        layout.addWidget(self._results)
        self.name.setToolTip(
            "<qt>Folder in ectkd/results beside the tomograms: a STAR file for each, "
            "all of them in one, and a table. What is there and has not changed is "
            "kept</qt>"
        )
        self.text.setText("None chosen yet")
        self.scope.valueChanged.connect(self._on_changed)
        self.name.textChanged.connect(self.valueChanged)
        self.files_button.clicked.connect(self._choose_files)
        self.folder_button.clicked.connect(self._choose_folder)
        self._on_changed()

    def _on_changed(self) -> None:
        self._files.setVisible(self.scope.value() == _FILES)
        self._results.setVisible(not self.is_one)
        self.valueChanged.emit()

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Choose tomograms", "", FILES)
        if names:
            self.choose([Path(name) for name in names])

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "A folder with tomograms")
        if name:
            self.choose([Path(name)])
