"""The densities of a simulation: one class a file, added by dialog or dropped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.errors import EctkdError
from napari_ectkd.simulation.density import DENSITY_FILTER, find_densities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from napari_ectkd.simulation.preview import Preview

_WARNING = "color: #f4a259"
_COLUMNS = ("class", "width", "SNR")
_ROWS = 4
"""Rows that are seen without scrolling."""


class DensityList(QWidget):
    """Density maps and files of atoms by class; none stands for the seven phantoms."""

    valueChanged = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, Path] = {}
        self.setAcceptDrops(True)
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.hint = QLabel(wordWrap=True)
        self.problem = QLabel(wordWrap=True)
        self.problem.setStyleSheet(_WARNING)
        self.add_button = QPushButton("Add files…")
        self.folder_button = QPushButton("Add folder…")
        self.remove_button = QPushButton("Remove")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.hint)
        layout.addWidget(self.table)
        row = QHBoxLayout()
        for button in (self.add_button, self.folder_button, self.remove_button):
            row.addWidget(button)
        layout.addLayout(row)
        layout.addWidget(self.problem)
        self.add_button.clicked.connect(self._choose_files)
        self.folder_button.clicked.connect(self._choose_folder)
        self.remove_button.clicked.connect(self._remove)
        self.table.itemSelectionChanged.connect(self._refresh)
        self.problem.hide()
        self._fill()

    def value(self) -> list[Path]:
        """Return the files."""
        return list(self._files.values())

    def setValue(self, value: Sequence[Path]) -> None:
        """Show other files, or those of folders; what cannot be one is said."""
        try:
            files = find_densities([Path(path) for path in value])
        except EctkdError as error:
            self.say(str(error))
            return
        self.say("")
        self._files = files
        self._fill()
        self.valueChanged.emit(self.value())

    def add(self, paths: Sequence[Path]) -> None:
        """Add files, or those of folders; one that is there already counts once."""
        known = {path.resolve() for path in self._files.values()}
        try:
            found = find_densities(paths).values() if paths else []
        except EctkdError as error:
            self.say(str(error))
            return
        new = [path for path in found if path.resolve() not in known]
        if new:
            self.setValue([*self.value(), *new])

    def show_preview(self, preview: Preview) -> None:
        """Show how wide the particles are, and how strong against the noise."""
        rows = zip(preview.classes, preview.width_px, preview.snr, strict=True)
        known = [(name, width, snr) for name, width, snr in rows if width]
        self.table.setRowCount(len(known))
        for row, (name, width, snr) in enumerate(known):
            self._set_row(row, name, f"{width:.0f} voxels", f"{snr:.2g}")
        self.say("\n".join(f"⚠ {text}" for text in preview.warnings))

    def say(self, text: str) -> None:
        """Say what is wrong with the densities, or nothing."""
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Add the files that are dropped."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls()]
        self.add([path for path in paths if path.name])
        event.acceptProposedAction()

    def _fill(self) -> None:
        self.hint.setText(
            ""
            if self._files
            else "Seven phantoms, until you add maps (MRC) or atoms (PDB, mmCIF), one "
            "class a file. Files can be dropped here."
        )
        self.hint.setVisible(not self._files)
        self.table.setRowCount(len(self._files))
        for row, (name, path) in enumerate(self._files.items()):
            self._set_row(row, name, "…", "…", str(path))
        self._fit()
        self._refresh()

    def _set_row(
        self, row: int, name: str, width: str, snr: str, path: str = ""
    ) -> None:
        tip = path or str(self._files.get(name, "a phantom"))
        for column, text in enumerate((name, width, snr)):
            item = QTableWidgetItem(text)
            item.setToolTip(tip)
            if column:
                item.setTextAlignment(
                    Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                )
            self.table.setItem(row, column, item)

    def _fit(self) -> None:
        """Take the height of the rows, also before the phantoms' are known."""
        height = self.table.horizontalHeader().sizeHint().height() + 4
        shown = min(len(self._files) or _ROWS, _ROWS)
        row = self.table.verticalHeader().defaultSectionSize()
        self.table.setFixedHeight(height + shown * row)

    def _refresh(self) -> None:
        self.remove_button.setEnabled(bool(self._files and self._chosen()))

    def _chosen(self) -> set[str]:
        rows = {index.row() for index in self.table.selectedIndexes()}
        return {self.table.item(row, 0).text() for row in rows}

    def _remove(self) -> None:
        chosen = self._chosen()
        self.setValue([p for name, p in self._files.items() if name not in chosen])

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(
            self,
            "Add densities",
            "",
            DENSITY_FILTER,
        )
        self.add([Path(name) for name in names])

    def _choose_folder(self) -> None:
        if name := QFileDialog.getExistingDirectory(self, "Add a folder of densities"):
            self.add([Path(name)])
