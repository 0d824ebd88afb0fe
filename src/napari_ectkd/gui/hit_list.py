"""The hits of a model by score, to be accepted, rejected or relabeled one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_ectkd.gui.choice_edit import ChoiceEdit
from napari_ectkd.gui.class_codes import class_codes
from napari_ectkd.gui.labeling import show_position
from napari_ectkd.gui.panel import set_problem
from napari_ectkd.gui.session import class_choices
from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED, Picks

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qtpy.QtGui import QKeyEvent

    from napari_ectkd.gui.session import Session

EVIDENCE = "rlnAutopickFigureOfMerit"
"""A sweep's log-odds of the class: they tell hits apart whose confidence is near 1."""
_COLUMNS = ("Seems to be", "Confidence", "You said")
_CLASS, _CONFIDENCE, _SAID = range(3)
_ROWS_SEEN = 8


class HitList(QWidget):
    """Lists the hits in the current tomogram, the best first; a row shows its place.

    What is said of a hit becomes its label: it is saved, undone and learned from as any
    other label. A rejected hit becomes an example of `none`.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.rows = HitTable()
        self._order = np.zeros(0, dtype=np.int64)
        self._ordered_by: tuple[object, ...] = None, None, None
        self.view = _View()
        self.view.setModel(self.rows)
        self.counts = QLabel(wordWrap=True)
        self.accept_button = QPushButton("Accept (A)")
        self.reject_button = QPushButton("Reject (R)")
        self.label_choice = ChoiceEdit([])
        self.relabel_button = QPushButton("Relabel as")
        self._build()
        session.picks_changed.connect(self.refresh)
        session.current_changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        self.refresh()

    def accept(self) -> None:
        """Say that the chosen hits are what they seem to be."""
        rows = self._chosen()
        if len(rows):
            self._say(self._picks().prediction[rows])

    def reject(self) -> None:
        """Say that there is nothing at the chosen hits."""
        self.relabel(NONE)

    def relabel(self, label: str) -> None:
        """Say that the chosen hits are of another class."""
        self._say(np.full(len(self._chosen()), label, dtype=object))

    def refresh(self) -> None:
        """Show the hits of now, and keep the chosen ones chosen."""
        picks = self._picks()
        order = self._ordered(picks)
        if self.rows.show_hits(picks, order):
            self.view.clearSelection()
        codes = class_codes(picks)
        said = codes.is_labeled[order]
        right = (codes.label.codes == codes.prediction.codes)[order]
        n_rejected = int(codes.label.is_in({NONE})[order].sum())
        n_other = int((said & ~right).sum()) - n_rejected
        self.counts.setText(
            f"{len(order)} hits: {int((said & right).sum())} accepted, {n_rejected} "
            f"rejected, {n_other} relabeled, {int((~said).sum())} to look at. Keys in "
            "the list: A accept, R reject, 1 … 9 class, ⌫ take back."
        )
        self.label_choice.setChoices([(n, n) for n in class_choices(self._session)])
        self.setVisible(bool(len(order)))
        self._refresh_buttons()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.counts)
        layout.addWidget(self.view)
        for buttons in (
            (self.accept_button, self.reject_button),
            (self.relabel_button, self.label_choice),
        ):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button, 1)
            layout.addLayout(row)
        self.accept_button.clicked.connect(self.accept)
        self.reject_button.clicked.connect(self.reject)
        self.relabel_button.clicked.connect(
            lambda: self.relabel(self.label_choice.value())
        )
        self.view.pressed_key.connect(self._on_key)
        self.view.selectionModel().selectionChanged.connect(self._on_chosen)

    def _picks(self) -> Picks:
        current = self._session.current
        return self._session.picks(current.name) if current else Picks.empty()

    def _ordered(self, picks: Picks) -> NDArray[np.int64]:
        """Return `order_of_hits`; a label changes nothing of it."""
        by = picks.prediction, picks.confidence, picks.foreign
        if any(a is not b for a, b in zip(by, self._ordered_by, strict=True)):
            self._ordered_by, self._order = by, order_of_hits(picks)
        return self._order

    def _chosen(self) -> NDArray[np.int64]:
        """Return which picks of the tomogram are chosen."""
        rows = sorted(i.row() for i in self.view.selectionModel().selectedRows())
        return self.rows.order[rows]

    def _say(self, labels: NDArray[np.object_]) -> None:
        """Label the chosen hits, one step to undo; go on after a single one."""
        chosen = self._chosen()
        if not len(chosen):
            return
        picks = self._picks()
        new = picks.label.copy()
        new[chosen] = labels
        self._session.set_picks(
            self._session.current.name, picks.with_labels(new), "judge hits"
        )
        if len(chosen) == 1 and labels[0] != UNLABELED:
            self._go_to_next(int(np.flatnonzero(self.rows.order == chosen[0])[0]))

    def _go_to_next(self, row: int) -> None:
        waiting = np.flatnonzero(self._picks().label[self.rows.order] == UNLABELED)
        if len(waiting):
            later = waiting[waiting > row]
            self.view.selectRow(int(later[0] if len(later) else waiting[0]))

    def _on_key(self, key: str) -> None:
        if key == "A":
            self.accept()
        elif key == "R":
            self.reject()
        elif key == "":
            self.relabel(UNLABELED)
        elif key == "0":
            self.relabel(NONE)
        elif int(key) <= len(self._session.classes):
            self.relabel(self._session.classes[int(key) - 1])

    def _on_chosen(self) -> None:
        self._refresh_buttons()
        chosen = self._chosen()
        layer = self._session.layers.points(self._session.current.name)
        if len(chosen) and layer is not None:
            layer.selected_data = set(chosen.tolist())
            show_position(self._session, self._picks().positions[chosen[0]])

    def _refresh_buttons(self) -> None:
        problem = "" if len(self._chosen()) else "Choose a hit in the list first"
        set_problem(self.accept_button, problem, "It is what the model says")
        set_problem(
            self.reject_button, problem, "Nothing is here: an example of none to learn"
        )
        set_problem(self.relabel_button, problem, "It is of this class")


class HitTable(QAbstractTableModel):
    """Hits as rows for Qt, made as they are looked at; there may be 100,000."""

    def __init__(self) -> None:
        super().__init__()
        self.order = np.zeros(0, dtype=np.int64)
        self._picks = Picks.empty()

    def show_hits(self, picks: Picks, order: NDArray[np.int64]) -> bool:
        """Show picks in an order of their indices; return whether rows are others."""
        is_other = not np.array_equal(
            self._picks.pick_id[self.order], picks.pick_id[order]
        )
        if is_other:
            self.beginResetModel()
        self._picks, self.order = picks, order
        if is_other:
            self.endResetModel()
        elif len(order):
            last = self.index(len(order) - 1, len(_COLUMNS) - 1)
            self.dataChanged.emit(self.index(0, 0), last)
        return is_other

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Return the number of hits."""
        return 0 if parent.isValid() else len(self.order)

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
        """Return the text of a cell."""
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        pick = self.order[index.row()]
        if index.column() == _CLASS:
            return self._picks.prediction[pick]
        if index.column() == _CONFIDENCE:
            return f"{self._picks.confidence[pick]:.3f}"
        label = self._picks.label[pick]
        if label == UNLABELED:
            return ""
        if label == self._picks.prediction[pick]:
            return "✓"
        return "✗ none" if label == NONE else label


class _View(QTableView):
    """A table whose keys judge the chosen rows."""

    pressed_key = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(22)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.setFixedHeight(header.sizeHint().height() + 22 * _ROWS_SEEN)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Judge by a key; all others move in the table."""
        text = event.text().upper()
        if event.key() == Qt.Key.Key_Backspace:
            self.pressed_key.emit("")
        elif text in {"A", "R"} or (text.isdecimal() and not event.modifiers()):
            self.pressed_key.emit(text)
        else:
            super().keyPressEvent(event)


def order_of_hits(picks: Picks) -> NDArray[np.int64]:
    """Return the indices of picks that a model says are particles, the best first.

    Equal confidence is told apart by a sweep's evidence, which does not saturate.
    """
    is_hit = ~class_codes(picks).prediction.is_in({UNLABELED, UNKNOWN, NONE})
    score = np.nan_to_num(picks.confidence, nan=0.0)
    if EVIDENCE in picks.foreign:
        evidence = pd.to_numeric(picks.foreign[EVIDENCE], errors="coerce").to_numpy()
        # By confidence first: picks that were classified have it, and no evidence.
        order = np.lexsort((-np.nan_to_num(evidence, nan=-np.inf), -score))
    else:
        order = np.argsort(-score, kind="stable")
    hits: NDArray[np.int64] = order[is_hit[order]]
    return hits
