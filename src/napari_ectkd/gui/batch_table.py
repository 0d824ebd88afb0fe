"""Many tomograms as a table: how each stands, what was found, what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.gui.panel import set_problem
from napari_ectkd.gui.status import duration
from napari_ectkd.gui.tomogram_batch import n_found

if TYPE_CHECKING:
    from napari_ectkd.gui.tomogram_batch import TomogramBatch
    from napari_ectkd.prediction.manifest import ManifestEntry

_COLUMNS = ("Tomogram", "State", "Found")
_NAME, _STATE, _FOUND = range(3)
_ROWS_SEEN = 6
_FAILED = QColor("#ff6b6b")


class BatchTable(QWidget):
    """Follows a batch; a double click opens a tomogram with what was found in it."""

    def __init__(self, batch: TomogramBatch) -> None:
        super().__init__()
        self._batch = batch
        self.rows = BatchRows(batch)
        self.view = QTableView()
        self.view.setModel(self.rows)
        self.counts = QLabel(wordWrap=True)
        self.about = QLabel(wordWrap=True)
        self.open_button = QPushButton("Open this tomogram with its picks")
        self._build()
        batch.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the states of now."""
        self.rows.refresh()
        self.counts.setText(self._counts())
        self._show_chosen()

    def choose(self, name: str) -> None:
        """Select the row of a tomogram."""
        names = [row.name for row in self._batch.rows]
        self.view.selectRow(names.index(name))

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.counts)
        layout.addWidget(self.view)
        layout.addWidget(self.about)
        layout.addWidget(self.open_button)
        view = self.view
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        view.setShowGrid(False)
        view.verticalHeader().hide()
        view.verticalHeader().setDefaultSectionSize(22)
        header = view.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        view.setFixedHeight(header.sizeHint().height() + 22 * _ROWS_SEEN + 4)
        self.about.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        view.doubleClicked.connect(self._open)
        view.selectionModel().selectionChanged.connect(self._show_chosen)
        self.open_button.clicked.connect(self._open)

    def _chosen(self) -> ManifestEntry | None:
        indices = self.view.selectionModel().selectedRows()
        row = indices[0].row() if indices else -1
        return self._batch.rows[row] if 0 <= row < len(self._batch.rows) else None

    def _open(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self._batch.open(chosen.name)

    def _show_chosen(self) -> None:
        chosen = self._chosen()
        self.about.setText(_about(chosen) if chosen else "")
        self.about.setVisible(chosen is not None)
        problem = "" if chosen else "Choose a tomogram in the table first"
        set_problem(self.open_button, problem, "The same as a double click on its row")

    def _counts(self) -> str:
        rows = self._batch.rows
        states = [row.state for row in rows]
        parts = [f"{states.count('done')} of {len(rows)} done"]
        if states.count("failed"):
            parts.append(f"{states.count('failed')} failed")
        text = f"{', '.join(parts)}: {n_found(rows):,} found."
        left = self._batch.seconds_left
        if left and "waiting" in states:
            text += f" About {duration(left)} left."
        return text


class BatchRows(QAbstractTableModel):
    """The tomograms of a batch as rows for Qt."""

    def __init__(self, batch: TomogramBatch) -> None:
        super().__init__()
        self._batch = batch
        self._rows: list[ManifestEntry] = []

    def refresh(self) -> None:
        """Show the rows of now; what is chosen stays so if it can."""
        before = [row.name for row in self._rows]
        is_other = before != [row.name for row in self._batch.rows]
        if is_other:
            self.beginResetModel()
        self._rows = list(self._batch.rows)
        if is_other:
            self.endResetModel()
        elif self._rows:
            last = self.index(len(self._rows) - 1, len(_COLUMNS) - 1)
            self.dataChanged.emit(self.index(0, 0), last)

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Return the number of tomograms."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Return the number of columns."""
        return len(_COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int) -> Any:
        """Return the name of a column."""
        is_title = orientation == Qt.Orientation.Horizontal
        if is_title and role == Qt.ItemDataRole.DisplayRole:
            return _COLUMNS[section]
        return None

    def data(self, index: QModelIndex, role: int) -> Any:
        """Return the text, tooltip or color of a cell."""
        row = self._rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            if index.column() == _NAME:
                return row.name
            if index.column() == _STATE:
                return self._state(row)
            return f"{n_found([row]):,}" if row.state == "done" else ""
        if role == Qt.ItemDataRole.ToolTipRole:
            return _about(row)
        if role == Qt.ItemDataRole.ForegroundRole and row.state == "failed":
            return _FAILED
        return None

    def _state(self, row: ManifestEntry) -> str:
        if row.state != "waiting":
            return row.state
        if not self._batch.is_active:
            return "not done"
        if row.name == self._batch.at_work:
            return f"at work, {self._batch.share:.0%}"
        return "waiting"


def _about(row: ManifestEntry) -> str:
    """Return what there is to say of a tomogram: why it failed, or what is in it."""
    if row.state == "failed":
        # Of a bug the whole traceback is in the manifest; its last line says most.
        return f"{row.name} failed: {row.error.strip().splitlines()[-1]}"
    if row.state == "done":
        found = ", ".join(f"{n:,} {name}" for name, n in row.counts.items())
        took = "" if row.seconds is None else f", in {duration(row.seconds)}"
        return f"{row.name}: {found or 'nothing found'}{took}"
    return f"{row.name}: {row.path}"
