"""The classes: color, name, key, how many have this label, how many are predicted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QLineEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.errors import EctkdError
from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.overlay import is_visible, shown_class, shown_prediction
from napari_ectkd.gui.panel import set_problem
from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED

if TYPE_CHECKING:
    from napari_ectkd.gui.session import Session

COLUMNS = ("shown", "class", "key", "labeled", "predicted")
_SHOW, _NAME, _KEY, _LABELED, _PREDICTED = range(5)
_WORDS = {UNLABELED: "(no label)", UNKNOWN: "unknown", NONE: "none"}
_TIPS = {
    UNLABELED: "Picks that nobody has labeled or classified",
    UNKNOWN: "Predictions less confident than the threshold",
    NONE: "No particle here: examples of what to leave out",
}


class ClassesTable(QWidget):
    """Shows and edits the classes of a session; `chosen` says which row was clicked.

    Parameters
    ----------
    session
        Whose classes.
    is_editable
        Whether classes can be added and changed here; else they are counted and hidden.
    """

    chosen = Signal(str)

    def __init__(self, session: Session, *, is_editable: bool = True) -> None:
        super().__init__()
        self._session = session
        self._names: list[str] = []
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(22)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(36)
        self.new_name = QLineEdit(placeholderText="name of a new class")
        self.add_button = QPushButton("Add class")
        self.color_button = QPushButton("Color…")
        self.rename_button = QPushButton("Rename…")
        self.remove_button = QPushButton("Remove")
        self._build()
        if not is_editable:
            self.table.hideColumn(_KEY)
            for widget in (self.new_name, self.add_button, self.color_button):
                widget.hide()
            self.rename_button.hide()
            self.remove_button.hide()
        session.overlay_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        session.picks_changed.connect(self.refresh)
        session.tomograms_changed.connect(self.refresh)
        self.refresh()

    def current(self) -> str | None:
        """Return the class of the chosen row."""
        row = self.table.currentRow()
        return self._names[row] if 0 <= row < len(self._names) else None

    def refresh(self) -> None:
        """Show the classes and numbers of now."""
        session = self._session
        labeled, predicted = Counter(), Counter()
        shown, visible = Counter(), Counter()
        for tomogram in session.tomograms.values():
            picks = session.picks(tomogram.name)
            labeled += class_codes(picks).label.counts()
            predicted += shown_prediction(picks, session.overlay).counts()
            here = shown_class(picks, session.overlay)
            shown += here.counts()
            visible += here.counts(
                is_visible(picks, here, session.hidden, session.overlay, tomogram)
            )
        names = [*session.classes, NONE]
        names += [n for n in (UNKNOWN, UNLABELED) if shown[n]]
        keys = {name: str(i) for i, name in enumerate(session.classes[:9], start=1)}
        keys[NONE] = "0"
        before = self.current()
        self.table.blockSignals(True)
        self.table.setRowCount(len(names))
        self._names = names
        for row, name in enumerate(names):
            self._fill(row, name, keys.get(name, ""), visible[name])
            n_labeled = labeled[name] if name != UNLABELED else 0
            self._cell(row, _LABELED, str(n_labeled) if n_labeled else "")
            n_predicted = predicted[name] if name != UNLABELED else 0
            self._cell(row, _PREDICTED, str(n_predicted) if n_predicted else "")
        if before in names:
            self.table.selectRow(names.index(before))
        elif before is not None:
            self.table.setCurrentItem(None)  # removed: not the next one in its place
        self.table.blockSignals(False)
        height = self.table.horizontalHeader().sizeHint().height() + 6
        height += sum(self.table.rowHeight(row) for row in range(len(names)))
        self.table.setFixedHeight(min(height, 300))
        self._refresh_buttons()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.new_name, 1)
        row.addWidget(self.add_button)
        layout.addLayout(row)
        layout.addWidget(self.table)
        buttons = QHBoxLayout()
        for button in (self.color_button, self.rename_button, self.remove_button):
            buttons.addWidget(button)
        layout.addLayout(buttons)
        self.table.itemChanged.connect(self._on_checked)
        self.table.itemSelectionChanged.connect(self._on_chosen)
        self.new_name.returnPressed.connect(self._add)
        self.new_name.textChanged.connect(self._refresh_buttons)
        self.add_button.clicked.connect(self._add)
        self.color_button.clicked.connect(self._choose_color)
        self.rename_button.clicked.connect(self._rename)
        self.remove_button.clicked.connect(self._remove)

    def _fill(self, row: int, name: str, key: str, n_visible: int) -> None:
        is_shown = name not in self._session.hidden
        item = self._cell(row, _SHOW, f"{n_visible:,}")
        item.setCheckState(
            Qt.CheckState.Checked if is_shown else Qt.CheckState.Unchecked
        )
        cell = self._cell(row, _NAME, _WORDS.get(name, name))
        cell.setForeground(QColor(self._session.palette.color(name)))
        cell.setToolTip(_TIPS.get(name, "Particles of this class"))
        self._cell(row, _KEY, key)

    def _cell(self, row: int, column: int, text: str) -> QTableWidgetItem:
        """Return the item of a cell, with this text."""
        item = self.table.item(row, column)
        if item is None:
            item = _new_item(column)
            self.table.setItem(row, column, item)
        item.setText(text)
        return item

    def _on_checked(self, item: QTableWidgetItem) -> None:
        if item.column() != _SHOW:
            return
        name = self._names[item.row()]
        hidden = self._session.hidden - {name}
        if item.checkState() != Qt.CheckState.Checked:
            hidden |= {name}
        self._session.set_hidden(hidden)

    def _on_chosen(self) -> None:
        self._refresh_buttons()
        name = self.current()
        if name is not None:
            self.chosen.emit(name)

    def _refresh_buttons(self) -> None:
        text = self.new_name.text().strip()
        problem = "" if text else "Type the name of the class first"
        set_problem(self.add_button, problem, "Add this class")
        is_class = self.current() in self._session.classes
        problem = "" if is_class else "Choose a class in the table first"
        set_problem(self.color_button, problem, "Choose another color")
        set_problem(self.rename_button, problem, "Its labels are renamed with it")
        set_problem(self.remove_button, problem, "Its picks stay, without a label")

    def _add(self) -> None:
        text = self.new_name.text().strip()
        if text and self._try(lambda: self._session.add_class(text)):
            self.new_name.clear()
            self.table.selectRow(self._names.index(text))

    def _choose_color(self) -> None:
        name = self.current()
        before = QColor(self._session.palette.color(name))
        color = QColorDialog.getColor(before, self, f"Color of {name}")
        if color.isValid():
            self._session.set_color(name, color.name())

    def _rename(self) -> None:
        name = self.current()
        new, is_given = QInputDialog.getText(
            self, "Rename a class", f"New name of {name}:", text=name
        )
        if is_given:
            self._try(lambda: self._session.rename_class(name, new))

    def _remove(self) -> None:
        self._session.remove_class(self.current())

    def _try(self, action) -> bool:
        try:
            action()
        except EctkdError as error:
            self._session.said.emit(str(error), True)
            return False
        return True


def _new_item(column: int) -> QTableWidgetItem:
    item = QTableWidgetItem()
    kind = Qt.ItemFlag.ItemIsSelectable
    if column == _SHOW:
        kind = Qt.ItemFlag.ItemIsUserCheckable
        item.setToolTip("How many the filters let through; uncheck to hide all")
    elif column > _NAME:
        item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    item.setFlags(kind | Qt.ItemFlag.ItemIsEnabled)
    return item
